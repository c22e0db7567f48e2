"""Whether the statements of a drafted text follow from passages, each with a verdict, its reason and its evidence.

    verify_text("It was founded in 1989. Its seat is Graz.", passages, CrossEncoder(lmworks.load("minilm-verifier")))

A statement is checked in the order of trust: it stands word for word in a passage; its numbers, dates, units, names and
quoted words are all there (what is missing vetoes whatever comes next); a window of sentences entails it and its words
are there; a language model finds it likelier behind the passages, which counts only where there is no verifier.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np

from lmworks.evaluate.faithfulness import premises
from lmworks.evaluate.metric import Item, Response, Verifier
from lmworks.generate.protocol import EngineProtocol
from lmworks.ground.exact_values import content_words, missing_values
from lmworks.records import Span, Unscored
from lmworks.tokenizer.sentence_splitter import sentence_ranges

Passage = tuple[str, Span]  # a text, and where it stands in its document
# P(supported): a logistic regression on ln of the odds of entailment and on the share of the statement's words that its
# evidence has, fitted on people's judgements (docs/grounding.md#statements-verified)
BIAS, OF_ENTAILMENT, OF_WORDS = -2.04, 0.12, 3.73
CONTRADICTED, VETO = 0.5, 0.95  # P(contradiction) by the window most like it: of what is not supported, and of the rest
GAIN = 1.0  # nats per token from which the likelihood supports it, by a model of 135 million parameters
WINDOWS = 4  # that are read for a statement: those that share the most words with it


@dataclass(frozen=True, slots=True)
class Verification:
    """The verdict on one statement.

    reason         what decided: "quoted", "values" (some are missing), "entailment", "likelihood", or "nothing"
    evidence       the sentences that decided, or the most similar ones; None where there are no passages
    support        P(supported), values aside: 1 for a quote, None without a verifier
    entailment     highest P(entailment) of a window; None for a quote and without a verifier
    contradiction  P(contradiction) by the window that shares the most words with it; None likewise
    missing        values of the statement that are not in its evidence, as they are written
    gain           nats per token that the passages add to its log-probability; None where it was not asked for
    """

    text: str
    verdict: Literal["supported", "unsupported", "contradicted"]
    reason: Literal["quoted", "values", "entailment", "likelihood", "nothing"]
    evidence: Span | None
    support: float | None = None
    entailment: float | None = None
    contradiction: float | None = None
    missing: tuple[str, ...] = ()
    gain: float | None = None


def verify_text(
    text: str,
    passages: Sequence[Passage],
    verifier: Verifier | None,
    model: EngineProtocol | None = None,
    question: str = "",
) -> list[tuple[tuple[int, int], Verification]]:
    """The range of each statement of a draft, a sentence of it, with its verdict by all passages together."""
    ranges = sentence_ranges(text)
    statements = [text[start:end] for start, end in ranges]
    return list(zip(ranges, verify(statements, [passages] * len(ranges), verifier, model, question), strict=True))


def verify(
    statements: Sequence[str],
    evidence: Sequence[Sequence[Passage]],
    verifier: Verifier | None,
    model: EngineProtocol | None = None,
    question: str = "",
) -> list[Verification]:
    """The verdict on each statement by its own evidence, such as the passages that it cites.

    Values of the `question` (with headings, if they are known) need no other evidence. With a `model`, the gain in
    log-probability behind the question is measured, too.
    """
    rows = list(zip(statements, evidence, strict=True))
    quotes = [_quoted(*row) for row in rows]
    read = [[] if quote else _nearest(*row) for row, quote in zip(rows, quotes, strict=True)]
    pairs = [(text, statement) for statement, windows in zip(statements, read, strict=True) for text, _ in windows]
    labels = iter(verifier(pairs) if verifier and pairs else ())  # (pairs, 3)
    checks = list[Verification]()
    for (statement, passages), quote, windows in zip(rows, quotes, read, strict=True):
        row_labels = np.array(list(islice(labels, len(windows)))).reshape(-1, 3)  # (windows, 3)
        gain = _gain(statement, passages, model, question) if model else None
        if quote:
            checks.append(Verification(statement, "supported", "quoted", quote, 1.0, gain=gain))
        else:
            checks.append(_verdict(statement, [question, *(text for text, _ in passages)], windows, row_labels, gain))
    return checks


def _verdict(
    statement: str, texts: Sequence[str], windows: Sequence[Passage], labels: np.ndarray, gain: float | None
) -> Verification:
    """`windows` begin with the one most like the statement; `labels` are the verifier's, (windows, 3) or (0, 3)."""
    missing = missing_values(statement, "\n".join(texts))
    index, support, entailment, contradiction = 0, None, None, None
    reason, supported = ("nothing", False) if gain is None else ("likelihood", gain >= GAIN)
    if len(labels):
        index, contradiction = int(labels[:, 0].argmax()), float(labels[0, 2])
        entailment = float(labels[index, 0])
        words, known = content_words(statement), {word for text in texts[1:] for word in content_words(text)}
        share = sum(word in known for word in words) / max(len(words), 1)
        odds = np.log(np.clip(entailment, 1e-3, 0.999) / (1 - np.clip(entailment, 1e-3, 0.999)))
        support = float(1 / (1 + np.exp(-BIAS - OF_ENTAILMENT * odds - OF_WORDS * share)))
        reason, supported = "entailment", support >= 0.5
    verdict = "supported" if supported and not missing else "unsupported"
    if contradiction is not None and contradiction >= (VETO if supported else CONTRADICTED):
        verdict, index = "contradicted", 0
    span = windows[index][1] if windows else None
    reason = "values" if missing else reason
    return Verification(statement, verdict, reason, span, support, entailment, contradiction, missing, gain)


def _quoted(statement: str, passages: Sequence[Passage]) -> Span | None:
    """Where a statement stands word for word, whatever its case and white space."""
    words = [re.escape(word) for word in statement.strip(" \n\t.").split()]
    pattern = re.compile(r"(?<!\w)" + r"\s+".join(words) + r"(?!\w)", re.IGNORECASE)
    for text, span in passages:
        if words and (match := pattern.search(text)):
            return Span(span.document, span.start + match.start(), span.start + match.end())
    return None


def _nearest(statement: str, passages: Sequence[Passage]) -> list[Passage]:
    """The windows that have the most of the statement's words, the shorter one first where two have as many."""
    words = set(content_words(statement))
    windows = [
        (text[start:end], Span(span.document, span.start + start, span.start + end))
        for text, span in passages
        for start, end in premises(text)
    ]
    return sorted(windows, key=lambda pair: (-len(words.intersection(content_words(pair[0]))), len(pair[0])))[:WINDOWS]


def _gain(statement: str, passages: Sequence[Passage], model: EngineProtocol, question: str) -> float | None:
    """(ln p(statement | passages, question) - ln p(statement | question)) / tokens; None for too many tokens."""
    from lmworks.evaluate.attribution import attribute  # and parts of an engine

    item = Item("", question, contexts=tuple(text for text, _ in passages))
    (attribution,) = attribute(model, [item], [Response(statement)])
    return None if isinstance(attribution, Unscored) else attribution.total / len(attribution.tokens)
