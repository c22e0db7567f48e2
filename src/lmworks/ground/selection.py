"""Which candidates an answer cites: by relevance, and only what is proven and new."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lmworks.evaluate.passage_selection import shingle_overlap
from lmworks.ground.candidate_sentences import Candidate
from lmworks.records import Verdict

Outcome = Literal["cited", "repeated", "not needed", "not a quote"]


@dataclass(frozen=True, slots=True)
class Rules:
    """Requirements of a citation: see `CalibrationConfig`.

    relative  a further sentence is cited when its relevance is at least this share of the best one's.
    """

    sentences: int
    repeated: float
    relative: float = 0.0


@dataclass(frozen=True, slots=True)
class Selection:
    """A verdict on every candidate, most relevant first; `chosen` are the indices of the cited ones in the input.

    `order` are the indices of the candidates that the verdicts are on.
    """

    verdicts: tuple[Verdict, ...]
    chosen: tuple[int, ...]
    order: tuple[int, ...]


def select(
    candidates: Sequence[Candidate], relevance: np.ndarray, rules: Rules, is_quote: Callable[[Candidate], bool]
) -> Selection:
    """Take the most relevant candidates that pass, until there are enough.

    `relevance` is (candidates,); `is_quote` says whether a quoted candidate stands in its document word for word.
    """
    verdicts: list[Verdict] = []
    chosen: list[int] = []
    order = np.argsort(-relevance, kind="stable").tolist()
    for index in order:
        candidate = candidates[index]
        enough = bool(chosen) and relevance[index] < rules.relative * relevance[chosen[0]]
        better = [candidates[i] for i in chosen]
        outcome: Outcome = "not needed" if enough else _judge(candidate, better, rules, is_quote)
        if outcome == "cited":
            chosen.append(index)
        verdicts.append(
            Verdict(
                text=candidate.text,
                origin="quoted",
                evidence=candidate.evidence,
                uri=candidate.uri,
                relevance=float(relevance[index]),
                support=None,
                verdict=outcome,
            )
        )
    return Selection(tuple(verdicts), tuple(chosen), tuple(order))


def _judge(
    candidate: Candidate, better: Sequence[Candidate], rules: Rules, is_quote: Callable[[Candidate], bool]
) -> Outcome:
    """The verdict on a candidate, given those that were chosen before it."""
    if len(better) >= rules.sentences or candidate.kind == "heading":
        return "not needed"
    if not is_quote(candidate):
        return "not a quote"
    repeats = any(shingle_overlap(candidate.text, chosen.text) >= rules.repeated for chosen in better)
    return "repeated" if repeats else "cited"
