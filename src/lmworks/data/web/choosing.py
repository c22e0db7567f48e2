"""Which blocks of a page are main text: logistic regression on a few features, and one rule for what is between.

The weights were fitted to half of the pages of scrapinghub/article-extraction-benchmark, by
`benchmarks/contenders/web_training.py`; the other half, and all other pages, only measure them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lmworks.data.web.blocks import Block
from lmworks.data.web.features import NAMES, WITH_AGREEMENT, asks, features

Mode = Literal["default", "fast"]
THRESHOLD = 0.5  # of the probability
WEIGHTS: Mapping[Mode, Mapping[str, float]] = {
    "default": {
        "bias": -1.00,
        "length": -0.61,
        "links": -1.17,
        "sentence": 1.07,
        "commas": 1.00,
        "paragraph": 0.63,
        "heading": -0.91,
        "item": 0.48,
        "preformatted or quoted": 0.92,
        "caption": -0.01,
        "named as boilerplate": -0.47,
        "named as body": 1.01,
        "boilerplate element": -0.39,
        "in article": 0.11,
        "prose beside": 1.06,
        "in container": 0.31,
        "outside of its prose": -1.46,
        "prose before": 0.49,
        "prose after": 0.67,
        "repeated": 0.07,
        "all link": -1.82,
        "asks the reader": -2.03,
        "named close by": -0.74,
        "agreement": 2.59,
    },
    "fast": {
        "bias": -1.39,
        "length": -0.36,
        "links": -0.97,
        "sentence": 1.18,
        "commas": 0.88,
        "paragraph": 1.04,
        "heading": -0.22,
        "item": 0.68,
        "preformatted or quoted": 0.85,
        "caption": -0.21,
        "named as boilerplate": -0.60,
        "named as body": 1.22,
        "boilerplate element": -0.55,
        "in article": 0.44,
        "prose beside": 1.58,
        "in container": 0.27,
        "outside of its prose": -1.82,
        "prose before": 0.91,
        "prose after": 1.03,
        "repeated": -0.12,
        "all link": -1.85,
        "asks the reader": -2.20,
        "named close by": -0.79,
    },
}
_WORD = re.compile(r"\w+")
_ROW = 4  # words
_MAX_DEPTH = 200  # of elements, up to which trafilatura is asked: it calls itself for each level
_PARTS = frozenset(("h2", "h3", "h4", "h5", "h6", "li", "pre", "td", "th", "dt", "dd", "caption"))


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether a block is kept, and why: the probability of the model, and what weighed most or which rule decided."""

    text: str
    score: float
    kept: bool
    reason: str


def choose(blocks: Sequence[Block], agreement: NDArray[np.float64] | None) -> list[Choice]:
    """One choice for each block. Without `agreement` (the fast mode) the model for it decides."""
    if not blocks:
        return []
    if agreement is None:
        weights = np.array([WEIGHTS["fast"][name] for name in NAMES])
        table = features(blocks, with_asks=False)
        for number in np.flatnonzero(table @ weights > 0).tolist():  # it only takes away: others are left out anyway
            table[number, _ASKS] = asks(blocks[number].text)
        return decide(blocks, table, weights)
    weights = np.array([WEIGHTS["default"][name] for name in WITH_AGREEMENT])
    return decide(blocks, np.column_stack([features(blocks), agreement]), weights, WITH_AGREEMENT)


def decide(
    blocks: Sequence[Block], table: NDArray[np.float64], weights: NDArray[np.float64], names: Sequence[str] = NAMES
) -> list[Choice]:
    """The choices for given features and weights."""
    parts = table * weights
    scores = (1 / (1 + np.exp(-parts.sum(axis=1)))).tolist()
    kept = [score >= THRESHOLD for score in scores]
    highest, lowest = parts[:, 1:].argmax(axis=1).tolist(), parts[:, 1:].argmin(axis=1).tolist()
    reasons = [names[1 + int(up if keep else down)] for keep, up, down in zip(kept, highest, lowest, strict=True)]
    if not any(kept):
        for number, row in enumerate(table):
            if not (row[_BOILERPLATE_NAME] or row[_BOILERPLATE_TAG] or row[_LINKS] > 0.5):
                kept[number], reasons[number] = True, "a page without prose"
    for number in between(blocks, table, kept):
        kept[number], reasons[number] = True, "between main text"
    return [
        Choice(block.text, score, keep, reason)
        for block, score, keep, reason in zip(blocks, scores, kept, reasons, strict=True)
    ]


_ASKS = NAMES.index("asks the reader")
_LINKS, _CLOSE = NAMES.index("links"), NAMES.index("named close by")
_BOILERPLATE_NAME, _BOILERPLATE_TAG = NAMES.index("named as boilerplate"), NAMES.index("boilerplate element")
_WITHIN = NAMES.index("in container")


def between(blocks: Sequence[Block], table: NDArray[np.float64], kept: Sequence[bool]) -> list[int]:
    """Headings, items, cells and code between kept blocks: a text goes on through what is no prose.

    They must stand in the element that holds the prose, outside of what is named as boilerplate, and not be links.
    """
    places = [number for number, keep in enumerate(kept) if keep]
    if not places:
        return []
    return [
        number
        for number in range(places[0], places[-1])
        if not kept[number]
        and blocks[number].holder.tag in _PARTS
        and table[number, _WITHIN]
        and table[number, _LINKS] < 0.5
        and not table[number, _CLOSE]
        and not table[number, _BOILERPLATE_TAG]
    ]


def with_headline(blocks: Sequence[Block], choices: Sequence[Choice]) -> list[Choice]:
    """The choices, with the last `h1` before the first kept block kept as well."""
    first = next((number for number, choice in enumerate(choices) if choice.kept), 0)
    changed = list(choices)
    for number in range(first - 1, -1, -1):
        if blocks[number].holder.tag == "h1":
            changed[number] = replace(choices[number], kept=True, reason="headline of the main text")
            break
    return changed


def agreement_of(blocks: Sequence[Block], html: str) -> NDArray[np.float64]:
    """The share of each block's rows of four words that trafilatura keeps, which looks at the page by other rules."""
    import trafilatura

    found = np.zeros(len(blocks))
    if any(block.holder.depth > _MAX_DEPTH for block in blocks):
        return found
    kept = _rows(trafilatura.extract(html, fast=True, include_comments=False) or "")
    if kept:
        for number, block in enumerate(blocks):
            own = _rows(block.text)
            found[number] = len(own & kept) / len(own) if own else 0.0
    return found


def _rows(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text)
    return set(zip(*(words[at:] for at in range(_ROW)), strict=False)) or ({tuple(words)} if words else set())
