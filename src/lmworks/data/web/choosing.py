"""Which blocks of a page are main text: logistic regression on a few features, and rules with a reason each.

The weights were fitted to half of the pages of scrapinghub/article-extraction-benchmark, by
`benchmarks/contenders/web_training.py`; the other half, and all other pages, only measure them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from lmworks.data.web.blocks import Block, width
from lmworks.data.web.features import AGREEING, ASKS, HEADINGS, NAMES, WITH_AGREEMENT, Measured, asks, features

Mode = Literal["default", "fast"]
THRESHOLD = 0.5  # of the probability
WEIGHTS: Mapping[Mode, Mapping[str, float]] = {
    "default": {
        "bias": -1.11,
        "length": -0.22,
        "links": -2.07,
        "sentence": 1.03,
        "commas": 0.65,
        "heading": -0.66,
        "item": 0.22,
        "preformatted or quoted": 0.91,
        "in container": 1.00,
        "outside of its prose": -2.44,
        "prose beside": 0.81,
        "prose before": 0.20,
        "prose after": 0.52,
        "all link": -1.75,
        "named close by": -1.10,
        "asks the reader": -1.79,
        "agreement": 1.12,
        "agreement beside": 1.45,
    },
    "fast": {
        "bias": -1.14,
        "length": -0.05,
        "links": -2.03,
        "sentence": 1.15,
        "commas": 0.57,
        "heading": -0.14,
        "item": 0.22,
        "preformatted or quoted": 0.82,
        "in container": 1.80,
        "outside of its prose": -2.51,
        "prose beside": 1.55,
        "prose before": 0.38,
        "prose after": 0.52,
        "all link": -1.72,
        "named close by": -1.37,
        "asks the reader": -1.97,
    },
}
_WORD = re.compile(r"\w+")
_ROW = 4  # words
_MAX_DEPTH = 200  # of elements, up to which trafilatura is asked: it calls itself for each level
_PARTS = frozenset(("h2", "h3", "h4", "h5", "h6", "li", "pre", "td", "th", "dt", "dd", "caption"))  # and all in tables
_LINKS, _WITHIN = NAMES.index("links"), NAMES.index("in container")
_HALF = 0.5


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether a block is kept, and why: the probability of the model, and what weighed most or which rule decided."""

    text: str
    score: float
    kept: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Choices(Sequence[Choice]):
    """One for each block of a page, in their order; few of the many are ever looked at one by one."""

    texts: Sequence[str]
    scores: Sequence[float]
    kept: Sequence[bool]
    reasons: Sequence[str]

    def __len__(self) -> int:
        return len(self.kept)

    @overload
    def __getitem__(self, number: int) -> Choice: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Choice]: ...
    def __getitem__(self, number: int | slice) -> Choice | Sequence[Choice]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        return Choice(self.texts[number], self.scores[number], self.kept[number], self.reasons[number])


def choose(blocks: Sequence[Block], html: str, mode: Mode) -> Choices:
    """One choice for each block of the page.

    Where the default mode keeps less than half of what trafilatura keeps, it has taken something else for the main
    text, such as a long discussion: then the prose that trafilatura keeps says where the main text is.
    """
    measured = features(blocks)
    texts, tags = [block.text for block in blocks], [block.holder.tag for block in blocks]
    if mode == "fast" or not blocks:
        return decide(texts, tags, measured)
    agreement = agreement_of(blocks, html if measured.depth <= _MAX_DEPTH else "")
    choices = decide(texts, tags, measured, agreement)
    agreed = agreement[:, 0] * [max(0, width(block.text) - block.linked) for block in blocks]
    if agreed[np.array(choices.kept)].sum() < _HALF * agreed.sum():
        choices = decide(texts, tags, features(blocks, agreement[:, 0] > _HALF), agreement)
    return choices


def decide(
    texts: Sequence[str],
    tags: Sequence[str],
    measured: Measured,
    agreement: NDArray[np.float64] | None = None,
    weights: NDArray[np.float64] | None = None,
) -> Choices:
    """The choices for the texts of blocks, the elements that hold them, and what was measured of them.

    `agreement` has a column for each of `AGREEING`; without it, the model of the fast mode decides. `weights` are other
    ones than those of the mode.
    """
    if not texts:
        return Choices((), (), (), ())
    mode: Mode = "fast" if agreement is None else "default"
    names = NAMES if agreement is None else WITH_AGREEMENT
    if weights is None:
        weights = np.array([WEIGHTS[mode][name] for name in names])
    table = measured.table if agreement is None else np.column_stack([measured.table, agreement])
    parts = table * weights
    sums = parts.sum(axis=1)
    for number in np.flatnonzero((sums > 0) & (sums < -weights[ASKS])).tolist():  # where it decides
        parts[number, ASKS] = weights[ASKS] * asks(texts[number])
    scores = 1 / (1 + np.exp(-parts.sum(axis=1)))
    kept = scores >= THRESHOLD
    highest, lowest = parts[:, 1:].argmax(axis=1), parts[:, 1:].argmin(axis=1)
    reasons = [names[1 + number] for number in np.where(kept, highest, lowest).tolist()]
    for number in np.flatnonzero(kept & measured.captions).tolist():
        kept[number], reasons[number] = False, "caption of an image that is not in the text"
    if not kept.any():
        for number in _without_prose(measured, agreement).tolist():
            kept[number], reasons[number] = True, "a page without prose"
    for number in _between(tags, measured, kept):
        kept[number], reasons[number] = True, "between main text"
    before, kept = kept, _whole_tables(texts, measured, kept)
    for number in np.flatnonzero(before != kept).tolist():
        reasons[number] = f"most of its table is {'kept' if kept[number] else 'left out'}"
    return Choices(texts, scores.tolist(), kept.tolist(), reasons)


def _without_prose(measured: Measured, agreement: NDArray[np.float64] | None) -> NDArray[np.intp]:
    """What trafilatura keeps of a page on which the model finds nothing; else all that is not links or boilerplate.

    The only text of a page is what it says, though it be a link.
    """
    if agreement is not None and (agreement[:, 0] > _HALF).any():
        return np.flatnonzero(agreement[:, 0] > _HALF)
    no_link = ~measured.boilerplate & (measured.table[:, _LINKS] <= _HALF)
    return np.flatnonzero(no_link | (len(no_link) == 1))


def _between(tags: Sequence[str], measured: Measured, kept: NDArray[np.bool_]) -> list[int]:
    """Headings, items, cells and code between kept blocks: a text goes on through what is no prose.

    They must stand in the element that holds the prose, outside of what is named as boilerplate, and not be links.
    """
    places = np.flatnonzero(kept)
    if not len(places):
        return []
    table = measured.table
    parts = (measured.tables >= 0) | [tag in _PARTS for tag in tags]
    open_to = ~kept & ~measured.boilerplate & ~measured.captions & (table[:, _WITHIN] > 0) & (table[:, _LINKS] < _HALF)
    first, last = int(places[0]), int(places[-1])
    return [number for number in np.flatnonzero(open_to & parts).tolist() if first < number < last]


def _whole_tables(texts: Sequence[str], measured: Measured, kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What is kept when a table is as a whole, or not at all: where more than half is of what is no link in it.

    A table that the container is a part of, or that is all there is in it, is a means of layout. One that is all that
    is kept stays as it is.
    """
    tables = np.where(measured.captions, -1, measured.tables) + 1
    if not tables.any():
        return kept
    prose = np.array([len(text) for text in texts]) * (1 - measured.table[:, _LINKS])
    whole = 2 * np.bincount(tables, prose * kept) > np.bincount(tables, prose)
    within = np.bincount(tables, measured.table[:, _WITHIN])
    sound = (within == 0) | ((within == np.bincount(tables)) & (within < within.sum()))
    changed = np.where((tables > 0) & sound[tables], whole[tables], kept)
    return changed if changed.any() else kept


def with_headline(tags: Sequence[str], choices: Choices) -> Choices:
    """The choices, with the headline of the main text kept as well: the heading right before the first kept block, or
    else, where the text does not begin with a heading of its own, the last `h1` before it."""
    first = choices.kept.index(True) if True in choices.kept else 0
    near = first - 1 if first and tags[first - 1] in HEADINGS else None
    if near is None and first and tags[first] not in HEADINGS:
        near = next((number for number in range(first - 1, -1, -1) if tags[number] == "h1"), None)
    if near is None:
        return choices
    kept, reasons = list(choices.kept), list(choices.reasons)
    kept[near], reasons[near] = True, "headline of the main text"
    return replace(choices, kept=kept, reasons=reasons)


def agreement_of(blocks: Sequence[Block], html: str) -> NDArray[np.float64]:
    """The share of each block's rows of four words that trafilatura keeps, which looks at the page by other rules.

    And that share for all that stands beside the block, by its prose: a paragraph that trafilatura has missed stands
    among others that it has kept.
    """
    import trafilatura

    found = np.zeros((len(blocks), len(AGREEING)))
    kept = _rows(trafilatura.extract(html, fast=True, include_comments=False) or "") if html else None
    if not kept:
        return found
    agreeing: dict[int, float] = {}
    prose: dict[int, int] = {}
    beside = [id(block.holder.parent or block.holder) for block in blocks]
    for number, (block, place) in enumerate(zip(blocks, beside, strict=True)):
        own = _rows(block.text)
        found[number, 0] = share = len(own & kept) / len(own) if own else 0.0
        weight = max(1, width(block.text) - block.linked)
        agreeing[place] = agreeing.get(place, 0.0) + share * weight
        prose[place] = prose.get(place, 0) + weight
    found[:, 1] = [agreeing[place] / prose[place] for place in beside]
    return found


def _rows(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text)
    return set(zip(*(words[at:] for at in range(_ROW)), strict=False)) or ({tuple(words)} if words else set())
