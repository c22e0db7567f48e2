"""What the choice of main text looks at: for each block some numbers about its text, its place and its neighbours.

Few, and about what pages have in common: the only words of a language are those of "asks the reader". The place of a
block counts most: whether it is in the element that holds most of the page's prose.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lmworks.data.web.blocks import LONG, Block, Holder, width

NAMES = (
    "bias",
    "length",  # logarithm of the characters, by 6
    "links",  # share of the characters that are links
    "sentence",  # ends as a sentence does
    "commas",  # in it, up to three, and semicolons
    "heading",
    "item",  # of a list
    "preformatted or quoted",  # or a cell of a table
    "in container",  # in the element that holds most of the prose
    "outside of its prose",  # before the first long paragraph of that element, or after its last
    "prose beside",  # share of the page's prose that stands in the same place
    "prose before",  # neighbours: the length of the block before, less what is links
    "prose after",
    "all link",  # some words that are all link: they point to another page
    "named close by",  # boilerplate by the names of the element itself or of the two around it
    "asks the reader",  # to subscribe, share, read on; or names rights and authors; English only
)
ASKS = NAMES.index("asks the reader")
AGREEING = ("agreement", "agreement beside")  # share of the words that another extractor keeps, here and beside
WITH_AGREEMENT = (*NAMES, *AGREEING)

# Names of classes and ids that say it anywhere in them, at the start of a word, and as a whole word.
DISCUSSION = ("comment", "disqus", "livefyre")
ANYWHERE = (
    "addthis", "advert", "author", "banner", "breadcrumb", "byline", "consent", "cookie", "copyright", "correction",
    "credit", "disclaimer", "excerpt", "footer", "gdpr", "hidden", "login", "masthead", "menu", "modal", "more-",
    "most-read", "most-viewed", "newsletter", "outbrain", "pagination", "popular", "popup", "print-", "promo",
    "read-more", "read-next", "readmore", "readnext", "recirc", "recommend", "related", "share", "sharing", "sidebar",
    "sign-up", "signup", "social", "sponsor", "subscri", "taboola", "teaser", "timestamp", "toolbar", "trending",
    "widget",
)  # fmt: skip
BEGINNING = ("nav", "search")
WHOLE = ("ad", "ads", "bio", "meta", "rail", "respond", "tag", "tags")
SECTIONS = ("appendix", "chapter", "preface", "section")  # classes of their own that mark a part of a longer text
_SECTION = re.compile(rf"(?<![^ \t\n\f\r])(?:{'|'.join(SECTIONS)})(?![^ \t\n\f\r])")
_DISCUSSION = re.compile("|".join(DISCUSSION))
_BOILERPLATE = re.compile(
    "|".join((*ANYWHERE, *DISCUSSION))
    + f"|(?<![a-z])(?:{'|'.join(BEGINNING)})|(?<![a-z])(?:{'|'.join(WHOLE)})(?![a-z])"
)
_ASKS = re.compile(  # of a text in lower case
    r"\b(?:click here|read more|read also|see also|also read|sign up|subscri|newsletter|follow (?:us|me|him|her|@)"
    r"|share (?:it|this)|like this|all rights reserved|copyright|getty|photo(?:graph)?s? (?:by|:)"
    r"|image (?:credit|copyright)|advertis|privacy|cookie|terms of|download the|our app\b|the .{0,20}app\b"
    r"|more stories|related|contact (?:us|the)|comments?\b|inbox|your e-?mail|e-?mail (?:us|address)|log ?in"
    r"|sponsored|affiliate|commission|this (?:story|article)|reporting by|editing by|contributed to|written by"
    r"|is a (?:writer|reporter|senior|staff))|©"
)
_ASKS_LENGTH = 300  # characters: longer text that has these words is about them
HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_AROUND = frozenset(("nav", "footer", "aside", "header", "form"))
_PARAGRAPHS = frozenset(("p", "li", "td", "blockquote"))
_SENTENCE_END = re.compile(r"[.!?…。！？:؟।][\"'”’»)\]」』]*$")
_COMMA = re.compile("[,;،、，]")
_MAJORITY = 0.5  # of the page's prose: an element that holds more is no boilerplate, whatever it is called
_VAST_MAJORITY = 0.9  # the same for the discussion, which may well be longer than what is discussed
_CONTAINER = 0.7  # of the prose that is not boilerplate: what the container holds at least
_FAR = 9


@dataclass(slots=True)
class _Place:
    """What a block element says of all blocks in it."""

    boilerplate: bool = False  # by names
    around: bool = False  # a nav, footer, aside, header or form
    caption: bool = False
    named: int = _FAR  # elements out from here to a name of boilerplate
    within: bool = False  # in the container
    prose: float = 0.0  # of the paragraphs right in it, and half of those one element further in


@dataclass(frozen=True, slots=True)
class Measured:
    """A row of `table` for each block, a column for each of `NAMES`; what the rules ask for; the deepest element."""

    table: NDArray[np.float64]
    boilerplate: NDArray[np.bool_]  # by names, or by the kind of element around
    captions: NDArray[np.bool_]
    tables: NDArray[np.int64]  # by a number, the table or list of terms around; -1 for none
    depth: int


@lru_cache(maxsize=4096)
def _named(names: str) -> tuple[bool, bool]:
    """Whether they name boilerplate, and whether that is a discussion."""
    return _BOILERPLATE.search(names) is not None, _DISCUSSION.search(names) is not None


def asks(text: str) -> float:
    return 1.0 if len(text) < _ASKS_LENGTH and _ASKS.search(text.lower()) else 0.0


def features(blocks: Sequence[Block], trusted: NDArray[np.bool_] | None = None) -> Measured:
    """All features of all blocks but `ASKS`, which is costly and only ever takes away: 0 here.

    With `trusted`, only these blocks say where the prose of the page is.
    """
    widths = [width(block.text) for block in blocks]
    prose = [max(0, total - block.linked) for total, block in zip(widths, blocks, strict=True)]
    long = [length >= LONG and block.linked <= length for block, length in zip(blocks, prose, strict=True)]
    if trusted is not None:
        long = [is_long and bool(trust) for is_long, trust in zip(long, trusted, strict=True)]
    holders = _holders(blocks)
    places = _places(holders, _sums(holders, blocks, [n * is_long for n, is_long in zip(prose, long, strict=True)]))
    most = _mark_container(holders, places, blocks, prose, long)
    own = [places[id(block.holder)] for block in blocks]
    clean = [place.within and not place.boilerplate for place in own]
    inner = [number for number, is_long in enumerate(long) if is_long and clean[number]] or [0, len(blocks)]
    rows: list[tuple[float, ...]] = []
    for number, block in enumerate(blocks):
        text, place, tag = block.text, own[number], block.holder.tag
        above = places[id(block.holder.parent)] if block.holder.parent is not None else place
        links = min(1.0, block.linked / widths[number])
        rows.append((
            1.0,
            math.log1p(min(widths[number] / 6, 100)),
            links,
            1.0 if _SENTENCE_END.search(text, max(0, len(text) - 4)) else 0.0,
            min(3, len(_COMMA.findall(text))) / 3,
            1.0 if tag in HEADINGS else 0.0,
            1.0 if tag == "li" else 0.0,
            1.0 if tag in ("pre", "blockquote", "td", "th") else 0.0,
            1.0 if place.within else 0.0,
            1.0 if not inner[0] <= number <= inner[-1] else 0.0,
            max(place.prose, above.prose) / most,
            math.log1p(prose[number - 1]) / 5 if number else 0.0,
            math.log1p(prose[number + 1]) / 5 if number + 1 < len(blocks) else 0.0,
            1.0 if links > 0.7 and text.count(" ") > 2 else 0.0,
            1.0 if place.named <= 2 else 0.0,
            0.0,
        ))  # fmt: skip
    return Measured(
        np.array(rows, dtype=np.float64).reshape(len(rows), len(NAMES)),
        np.array([place.boilerplate or place.around for place in own], dtype=np.bool_),
        np.array([place.caption for place in own], dtype=np.bool_),
        _tables_around(holders, blocks),
        max((block.holder.depth for block in blocks), default=0),
    )


def tables_of(around: Sequence[int], tags: Sequence[str]) -> list[int]:
    """For each element its innermost table or list of terms, as a place among them; -1 for none.

    `around` has the place of the element around each. A table that holds tables is a means of layout: none.
    """
    found: list[int] = []
    layouts = {-1}
    for place, (outer, tag) in enumerate(zip(around, tags, strict=True)):
        above = found[outer] if outer >= 0 else -1
        if tag == "table":
            layouts.add(above)
        found.append(place if tag in ("table", "dl") else above)
    return [-1 if table in layouts else table for table in found]


def _tables_around(holders: Sequence[Holder], blocks: Sequence[Block]) -> NDArray[np.int64]:
    places = {id(holder): place for place, holder in enumerate(holders)}
    around = [places.get(id(holder.parent), -1) for holder in holders]
    tables = tables_of(around, [holder.tag for holder in holders])
    return np.array([tables[places[id(block.holder)]] for block in blocks], dtype=np.int64)


def _holders(blocks: Sequence[Block]) -> list[Holder]:
    """Each once, and those around it before it."""
    found: list[Holder] = []
    seen: set[int] = set()
    for block in blocks:
        chain: list[Holder] = []
        holder: Holder | None = block.holder
        while holder is not None and id(holder) not in seen:
            seen.add(id(holder))
            chain.append(holder)
            holder = holder.parent
        found += reversed(chain)
    return found


def _sums(holders: Sequence[Holder], blocks: Sequence[Block], amounts: Sequence[int]) -> dict[int, int]:
    """By the identity of the holder: what all blocks in it come to."""
    sums = dict.fromkeys(map(id, holders), 0)
    for block, amount in zip(blocks, amounts, strict=True):
        sums[id(block.holder)] += amount
    for holder in reversed(holders):
        if holder.parent is not None:
            sums[id(holder.parent)] += sums[id(holder)]
    return sums


def _places(holders: Sequence[Holder], sums: Mapping[int, int]) -> dict[int, _Place]:
    """By the identity of the holder; each inherits from the one around it.

    What an element is called says nothing where it holds most of the page's prose: pages call it `has-sidebar`, and
    some have all of their text in a form.
    """
    places: dict[int, _Place] = {}
    total = sums[id(holders[0])] if holders else 0
    for holder in holders:
        above = places[id(holder.parent)] if holder.parent is not None else _Place()
        boilerplate, discussion = _named(holder.names) if holder.names else (False, False)
        share = _VAST_MAJORITY if discussion else _MAJORITY
        whole = holder.tag in ("body", "article", "main") or sums[id(holder)] > share * total
        places[id(holder)] = _Place(
            above.boilerplate or (boilerplate and not whole),
            above.around or (holder.tag in _AROUND and not whole),
            above.caption or holder.tag == "figcaption",
            _FAR if whole else 0 if boilerplate else above.named + 1,
        )
    return places


def _is_section(holder: Holder) -> bool:
    """Whether it is a part of a longer text, as HTML and DocBook mark them."""
    return holder.tag == "section" or (holder.tag == "div" and _SECTION.search(holder.names) is not None)


def _mark_container(
    holders: Sequence[Holder],
    places: Mapping[int, _Place],
    blocks: Sequence[Block],
    prose: Sequence[int],
    long: Sequence[bool],
) -> float:
    """Marks the innermost element that holds most of the prose. Returns the most prose that stands in one place.

    Where that is a section within sections, such as the longest on a page of a manual, it is the outermost of them. A
    long paragraph counts for the element around it, and half for the one around that (as in Readability).
    """
    counted = [0] * len(blocks)
    for number, block in enumerate(blocks):
        place = places[id(block.holder)]
        if not long[number] or place.boilerplate or place.around or place.caption:
            continue
        counted[number] = prose[number]
        near = block.holder if block.holder.parent is None or block.holder.tag == "div" else block.holder.parent
        places[id(near)].prose += prose[number]
        if near.parent is not None:
            places[id(near.parent)].prose += prose[number] / 2
    if not any(counted):
        return 1.0
    sums = _sums(holders, blocks, counted)
    enough = _CONTAINER * sum(counted)
    best = max((holder for holder in holders if sums[id(holder)] >= enough), key=lambda holder: holder.depth)
    if best.tag in _PARAGRAPHS and best.parent is not None:
        best = best.parent
    while _is_section(best) and best.parent is not None and _is_section(best.parent):
        best = best.parent
    for holder in holders:
        above = holder.parent is not None and places[id(holder.parent)].within
        places[id(holder)].within = holder is best or above
    return max(place.prose for place in places.values())
