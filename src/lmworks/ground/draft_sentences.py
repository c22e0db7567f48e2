"""Sentences of the language model's own, drafted from the passages and attributed back to them."""

from collections.abc import Sequence

import numpy as np

from lmworks.generate.protocol import Completion, EngineProtocol, Request, SamplingParameters
from lmworks.ground.attribution import support
from lmworks.ground.candidate_sentences import Candidate
from lmworks.ground.config import AnswerConfig
from lmworks.records import Message, Retrieved
from lmworks.retrieve.sentence_splitter import sentence_ranges
from lmworks.tokenizer.tokenizer import Tokenizer

INSTRUCTION = "Answer the question in one or two sentences, from the passages alone."
_FRAME = 64  # tokens, more than any chat template puts around two messages


def prompt(question: str, passages: Sequence[str]) -> tuple[Message, ...]:
    """The messages of a draft: the instruction, the passages, the question."""
    context = "\n\n".join(passages)
    return (Message("system", INSTRUCTION), Message("user", f"Passages:\n{context}\n\nQuestion: {question}"))


def fitting(question: str, passages: Sequence[str], tokenizer: Tokenizer, room: int | None) -> list[str]:
    """The first passages that fit into `room` tokens together with the question; of a first one that does not, its
    beginning; none where the question leaves nothing."""
    if room is None:
        return list(passages)
    room -= _FRAME + sum(len(tokenizer.encode(message.content)) for message in prompt(question, ()))
    fit: list[str] = []
    for passage in passages:
        ids = tokenizer.encode(f"{passage}\n\n")
        if len(ids) > room:
            beginning = "" if fit else tokenizer.decode(ids[: max(room, 0)])[: len(passage)].rstrip("\ufffd")
            return fit or ([beginning] if beginning.strip() else [])
        fit.append(passage)
        room -= len(ids)
    return fit


def draft(
    questions: Sequence[tuple[str, Sequence[Retrieved], Sequence[Candidate]]],
    engine: EngineProtocol,
    tokenizer: Tokenizer,
    config: AnswerConfig,
) -> list[list[Candidate]]:
    """For each (question, passages, quoted candidates): the sentences that the model writes, attributed.

    The drafts of all questions are generated as one batch. A question without anything to rest on gets no sentence, nor
    does one that leaves no room for a passage; a draft that ends in the middle of a sentence loses that sentence.
    """
    sampling, most = SamplingParameters(max_tokens=config.draft_tokens), engine.capabilities.context_length
    room = None if most is None else most - config.draft_tokens
    requests: dict[int, Request] = {}
    for number, (question, passages, quoted) in enumerate(questions):
        texts = fitting(question, [each.text for each in passages[: config.draft_passages]], tokenizer, room)
        if texts and quoted:
            requests[number] = Request(messages=prompt(question, texts), sampling=sampling)
    drafts: list[list[Candidate]] = [[] for _ in questions]
    for number, completion in zip(requests, engine.generate(list(requests.values())), strict=True):
        _, passages, quoted = questions[number]
        sentences = _sentences(completion, config.minimum_characters)
        drafts[number] = attribute(sentences, passages[: config.draft_passages], quoted, engine, tokenizer)
    return drafts


def _sentences(completion: Completion, minimum_characters: int) -> list[str]:
    ranges = sentence_ranges(completion.text)
    if completion.finish_reason == "length":
        ranges = ranges[:-1]
    return [completion.text[start:end] for start, end in ranges if end - start >= minimum_characters]


def attribute(
    sentences: Sequence[str],
    passages: Sequence[Retrieved],
    quoted: Sequence[Candidate],
    engine: EngineProtocol,
    tokenizer: Tokenizer,
) -> list[Candidate]:
    """Each sentence with the passage that supports it most, resting on the one sentence of it that does so most."""
    result: list[Candidate] = []
    by_passage = support(sentences, [passage.text for passage in passages], engine, tokenizer)
    for sentence, gains in zip(sentences, by_passage, strict=True):
        ranked = np.argsort(-gains, kind="stable").tolist()
        inside: list[Candidate] = []
        for best in ranked:
            inside = [candidate for candidate in quoted if candidate.passage == best]
            if inside:
                break
        if not inside:
            continue
        closest = int(np.argmax(support([sentence], [candidate.text for candidate in inside], engine, tokenizer)[0]))
        rests_on = inside[closest]
        result.append(
            Candidate(
                text=sentence,
                origin="generated",
                evidence=rests_on.evidence,
                passage=rests_on.passage,
                uri=rests_on.uri,
                heading=rests_on.heading,
                support=float(gains[rests_on.passage]),
            )
        )
    return result
