"""An answer as an event of the log, and back."""

from collections.abc import Callable, Sequence

import numpy as np

from lmworks.records import Answer, Interaction, Message, Retrieved, Verdict

REMOVED = ("unsupported", "not a quote", "not an answer")  # verdicts on what a model wrote and is not said
NEAREST = 3  # passages that an answer offers


def nearest_passages(passages: Sequence[Retrieved], verdicts: Sequence[Verdict]) -> tuple[Retrieved, ...]:
    """The passages to offer: those of what was chosen, or would be, then the best of the others."""
    chosen = [verdict.evidence for verdict in verdicts if verdict.verdict in ("cited", "abstained")]
    holding = [next((passage for passage in passages if passage.span.overlap(span)), None) for span in chosen]
    order = {passage.chunk: passage for passage in (*holding, *passages) if passage is not None}
    return tuple(order.values())[:NEAREST]


def removed_statements(verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """Statements that were written and are no part of the answer, but for repetitions."""
    return tuple(verdict for verdict in verdicts if verdict.origin == "generated" and verdict.verdict in REMOVED)


def to_interaction(
    answer: Answer,
    passages: Sequence[Retrieved],
    query_embedding: np.ndarray | None,
    *,
    time: float,
    route: str,
    count_tokens: Callable[[str], int],
    index: str = "",
    earlier: Sequence[str] = (),
) -> Interaction:
    """The interaction of an answer, for the log: what `to_answer` needs, the passages, the query embedding.

    `time` is when the question came, in seconds since the epoch; `index` the content hash of the index, `earlier` the
    questions before it. Tokens are those of what was read to decide the answer, the question and the passages, and
    those of its text.
    """
    return Interaction(
        id=answer.id,
        time=time,
        messages=tuple(Message("user", question) for question in (*earlier, answer.question)),
        response=answer.text,
        retrieved=tuple(passages),
        verdicts=answer.verdicts,
        query_embedding=() if query_embedding is None else tuple(query_embedding.tolist()),
        timings=answer.timings,
        input_tokens=sum(map(count_tokens, (answer.question, *(passage.text for passage in passages)))),
        output_tokens=count_tokens(answer.text),
        index=index,
        lineage=answer.lineage,
        route=route,
        confidence=answer.confidence,
        abstained=answer.abstained,
        error=answer.failure.partition(":")[0],
    )


def to_answer(interaction: Interaction) -> Answer:
    """The answer that was given; ValueError when the interaction is none of an answer from documents."""
    if interaction.confidence is None:
        raise ValueError(f"{interaction.id} is no answer from documents: it was made by {interaction.route} alone")
    return Answer(
        id=interaction.id,
        question=interaction.messages[-1].content if interaction.messages else "",
        text=interaction.response,
        citations=interaction.citations,
        confidence=interaction.confidence,
        abstained=interaction.abstained,
        nearest=nearest_passages(interaction.retrieved, interaction.verdicts),
        verdicts=interaction.verdicts,
        lineage=interaction.lineage,
        timings=interaction.timings,
        failure=interaction.error,
    )
