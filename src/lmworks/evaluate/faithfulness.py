"""Faithfulness: which sentences of an answer its contexts support, and which of their sentences carries each.

    judge = Judge(Engine(lmworks.load("smollm2-135m-instruct")), rubric("faithfulness"))
    metric("faithfulness", judge=judge).measure(items, responses)  # supported statements / all statements
    verdicts(item, response, by_judge(judge), encoder)  # one by one

A statement is a sentence of the answer, and all of them are counted: one without a verdict leaves its answer unscored
rather than a smaller denominator, and an answer that states nothing has no faithfulness.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lmworks.evaluate.metric import Item, Metric, Response, Value, Verifier, each
from lmworks.records import Span, Unscored
from lmworks.tokenizer.sentence_splitter import sentence_ranges

if TYPE_CHECKING:
    from lmworks.evaluate.judge import Judge
    from lmworks.generate.text_embedding import TextEncoder

SUPPORTED = 0.5  # probability above which a statement is supported
SENTENCES = 2  # of a premise, at most: verifiers are trained on short ones

Support = Callable[[Sequence[str], Sequence[str]], Sequence[float | Unscored]]  # passages, statements -> degrees


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of an answer, at `[start, end)` of it.

    support   probability that the contexts support it
    carrier   the sentence of the contexts that is most like it, in the document of its passage; contexts of an item
              have no document: `contexts[0]` stands for its hash
    """

    text: str
    start: int
    end: int
    support: float
    carrier: Span | None = None

    @property
    def supported(self) -> bool:
        return self.support > SUPPORTED


def passages_of(item: Item, response: Response) -> list[tuple[str, Span]]:
    """The texts that an answer rests on, and where they stand: the item's contexts, else what was retrieved."""
    if item.contexts:
        return [(text, Span(f"contexts[{place}]", 0, len(text))) for place, text in enumerate(item.contexts)]
    return [(one.text, one.span) for one in response.retrieved]


def statements_of(item: Item, response: Response) -> list[tuple[int, int]] | Unscored:
    """The sentences of an answer that has contexts, as ranges of its text."""
    if response.abstained or not response.text.strip():
        return Unscored("an empty answer, which states nothing")
    if not any(text.strip() for text, _ in passages_of(item, response)):
        return Unscored("no contexts")
    return sentence_ranges(response.text)


def verdicts(
    item: Item, response: Response, support: Support, encoder: "TextEncoder | None" = None
) -> list[Statement] | Unscored:
    """Each statement of an answer with its support, and with an encoder the sentence that carries it."""
    ranges = statements_of(item, response)
    if isinstance(ranges, Unscored):
        return ranges
    texts = [response.text[start:end] for start, end in ranges]
    degrees = support([text for text, _ in passages_of(item, response)], texts)
    if missing := next((one for one in degrees if isinstance(one, Unscored)), None):
        return missing
    found = carriers(item, response, encoder) if encoder else None
    spans = [span for span, _ in found] if isinstance(found, list) else [None] * len(texts)
    rows = zip(texts, ranges, degrees, spans, strict=True)
    return [Statement(text, *place, float(degree), span) for text, place, degree, span in rows]  # type: ignore[arg-type]


def by_judge(judge: "Judge") -> Support:
    """Support as a judge sees it, who reads all passages at once; verdicts on any scale, from none to whole."""
    lowest, highest = min(judge.rubric.verdicts.values()), max(judge.rubric.verdicts.values())

    def support(passages: Sequence[str], statements: Sequence[str]) -> list[float | Unscored]:
        rows = [{"context": "\n\n".join(passages), "response": one} for one in statements]
        return [
            one if isinstance(one, Unscored) else (one.value - lowest) / (highest - lowest)
            for one in judge.judgements(rows)
        ]

    return support


def by_verifier(verifier: Verifier) -> Support:
    """P(entailed) by the neighbouring sentences of a passage that entail it most."""

    def support(passages: Sequence[str], statements: Sequence[str]) -> list[float]:
        texts = [text[start:end] for text in passages for start, end in premises(text)]
        found = verifier([(text, one) for one in statements for text in texts])  # (pairs, 3)
        return found[:, 0].reshape(len(statements), len(texts)).max(axis=1).tolist()

    return support


def premises(text: str) -> list[tuple[int, int]]:
    """The ranges of all runs of at most `SENTENCES` neighbouring sentences."""
    ranges = sentence_ranges(text)
    return [(one[0], last[1]) for place, one in enumerate(ranges) for last in ranges[place : place + SENTENCES]]


def faithfulness(judge: "Judge") -> Metric:
    return _supported("faithfulness", by_judge(judge), judge.signature)


def entailed(verifier: Verifier) -> Metric:
    return _supported("faithfulness-verified", by_verifier(verifier), getattr(verifier, "signature", {}), version=2)


def _supported(name: str, support: Support, signature: Mapping[str, Any], version: int = 1) -> Metric:
    def value(item: Item, response: Response) -> Value:
        found = verdicts(item, response, support)
        return found if isinstance(found, Unscored) else float(np.mean([one.supported for one in found]))

    return Metric(name, each(value), proportion=True, version=version, signature=signature)


def carriers(item: Item, response: Response, encoder: "TextEncoder") -> list[tuple[Span, float]] | Unscored:
    """For each statement the sentence of the contexts that is most like it, the first of equal ones, and how much: mean
    over the statement's tokens of the highest cosine with a token of it (MaxSim; Khattab & Zaharia 2020, section 3.3).
    """
    ranges = statements_of(item, response)
    if isinstance(ranges, Unscored):
        return ranges
    places, sentences = list[Span](), list[str]()
    for text, at in passages_of(item, response):
        for start, end in sentence_ranges(text):
            places.append(Span(at.document, at.start + start, at.start + end))
            sentences.append(text[start:end])
    _, vectors = encoder.encode_both([*sentences, *(response.text[a:b] for a, b in ranges)], "passage")
    filled = [place for place in range(len(sentences)) if len(vectors[place])]
    if not filled or not all(len(one) for one in vectors[len(sentences) :]):
        return Unscored("a statement or the contexts without a token")
    tokens = np.concatenate([vectors[place] for place in filled])  # (all tokens, width)
    starts = np.cumsum([0, *(len(vectors[place]) for place in filled[:-1])])
    found: list[tuple[Span, float]] = []
    for statement in vectors[len(sentences) :]:  # (tokens, width)
        similarity = np.maximum.reduceat(statement @ tokens.T, starts, axis=1).mean(axis=0)  # (sentences,)
        best = int(similarity.argmax())
        found.append((places[filled[best]], float(similarity[best])))
    return found


def carrier_similarity(encoder: "TextEncoder") -> Metric:
    """Similarity of each statement to the sentence that carries it, averaged over the answer's statements."""

    def value(item: Item, response: Response) -> Value:
        found = carriers(item, response, encoder)
        return found if isinstance(found, Unscored) else float(np.mean([similarity for _, similarity in found]))

    return Metric("carrier-similarity", each(value), signature={"encoder": encoder.fingerprint})
