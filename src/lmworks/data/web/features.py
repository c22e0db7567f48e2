"""What the choice of main text looks at: for each block some numbers about its text, its place and its neighbours."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lmworks.data.web.blocks import Block, Holder

NAMES = (
    "bias",
    "length",  # logarithm of the words
    "links",  # share of the characters that are links
    "sentence",  # ends as a sentence does
    "commas",  # in it, up to three
    "paragraph",  # is a `p`
    "heading",
    "item",  # of a list
    "preformatted or quoted",
    "caption",
    "named as boilerplate",  # by class or id, its own or of what is around it
    "named as body",
    "boilerplate element",  # in a nav, footer, aside, header or form
    "in article",  # in an `article` or `main`
    "prose beside",  # share of the page's prose that stands in the same place
    "in container",  # in the element that holds most of the prose
    "outside of its prose",  # before the first long paragraph of that element, or after its last
    "prose before",  # neighbours: the length of the block before, less what is links
    "prose after",
    "repeated",  # the same text stands on the page elsewhere
    "all link",  # a sentence that is a link: points to another page
    "asks the reader",  # to subscribe, share, read on; or names rights and authors; English only
    "named close by",  # boilerplate by the names of the element itself or of the two around it
)
WITH_AGREEMENT = (*NAMES, "agreement")  # share of the words that another extractor has kept

_BOILERPLATE = re.compile(
    r"comment|disqus|footer|(?<![a-z])nav|menu|breadcrumb|related|recommend|share|social|promo|sidebar|cookie|consent"
    r"|newsletter|subscri|sign-?up|widget|advert|(?<![a-z])ads?(?![a-z])|banner|popup|modal|teaser|more-|read-?more"
    r"|byline|author|bio(?![a-z])|tags?(?![a-z])|meta(?![a-z])|credit|copyright|trending|popular|outbrain|taboola"
    r"|login|search|hidden|print-|timestamp|toolbar|pagination|correction|disclaimer"
)
_BODY = re.compile(
    r"article-?_?(?:body|content|text)|story-?_?(?:body|content|text)|post-?_?(?:body|content|text)"
    r"|entry-?_?(?:body|content|text)|(?:body|main|page)-?_?(?:content|copy|text)|content-?_?body|articlebody"
)
_CAPTION = re.compile(r"caption")
_STRONG = re.compile(  # names that say it even inside of an article's body
    r"comment|disqus|footer|(?<![a-z])nav|breadcrumb|related|recommend|share|social|promo|sidebar|cookie|consent"
    r"|newsletter|subscri|sign-?up|outbrain|taboola|trending|popular|popup|modal|login|teaser|latest|read-?more|menu"
    r"|banner"
)
_ASKS = re.compile(
    r"\b(?:click here|read more|read also|see also|also read|sign up|subscri|newsletter|follow (?:us|me|him|her|@)"
    r"|share (?:it|this)|like this|all rights reserved|copyright|getty|photo(?:graph)?s? (?:by|:)"
    r"|image (?:credit|copyright)|advertis|privacy|cookie|terms of|download the|our app\b|the .{0,20}app\b"
    r"|more stories|related|contact (?:us|the)|comments?\b|inbox|your e-?mail|e-?mail (?:us|address)|log ?in"
    r"|sponsored|affiliate|commission|this (?:story|article)|reporting by|editing by|contributed to|written by"
    r"|is a (?:writer|reporter|senior|staff))|©",
    re.I,
)
_ASKS_LENGTH = 300  # characters: longer text that has these words is about them
_HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_AROUND = frozenset(("nav", "footer", "aside", "header", "form"))
_SENTENCE_END = re.compile(r"[.!?…。！？:][\"'”’»)\]]*$")
_LONG = 80  # characters without those of links: a paragraph of prose


@dataclass(slots=True)
class _Place:
    """What a block element says of all blocks in it."""

    boilerplate: bool
    body: bool
    around: bool
    article: bool
    caption: bool
    strong: int = 9  # elements out from here to a name of `_STRONG`
    within: bool = False  # in the element that holds most of the prose
    prose: float = 0.0


@lru_cache(maxsize=4096)
def _named(names: str) -> tuple[bool, bool, bool, bool]:
    patterns = (_BOILERPLATE, _BODY, _CAPTION, _STRONG)
    boilerplate, body, caption, strong = (pattern.search(names) is not None for pattern in patterns)
    return boilerplate, body, caption, strong


def asks(text: str) -> float:
    return 1.0 if len(text) < _ASKS_LENGTH and _ASKS.search(text) else 0.0


def features(blocks: Sequence[Block], with_asks: bool = True) -> NDArray[np.float64]:
    """A row for each block, a column for each of `NAMES`; 0 for the costly "asks the reader" when it is not wanted."""
    places = _places(blocks)
    prose = [max(0, len(block.text) - block.linked) for block in blocks]
    most = _mark_container(blocks, prose, places)
    first, last = _prose_range(blocks, prose, places)
    times = Counter(block.text for block in blocks)
    rows: list[tuple[float, ...]] = []
    for number, block in enumerate(blocks):
        holder, text = block.holder, block.text
        place = places[id(holder)]
        tag = holder.tag
        above = places[id(holder.parent)] if holder.parent is not None else place
        rows.append((
            1.0,
            math.log1p(min(text.count(" ") + 1, 100)),
            block.link_density,
            1.0 if _SENTENCE_END.search(text, max(0, len(text) - 4)) else 0.0,
            min(3, text.count(",")) / 3,
            1.0 if tag == "p" else 0.0,
            1.0 if tag in _HEADINGS else 0.0,
            1.0 if tag == "li" else 0.0,
            1.0 if tag in ("pre", "blockquote", "td", "th") else 0.0,
            1.0 if place.caption or tag == "figcaption" else 0.0,
            1.0 if place.boilerplate else 0.0,
            1.0 if place.body else 0.0,
            1.0 if place.around else 0.0,
            1.0 if place.article else 0.0,
            max(place.prose, above.prose) / most,
            1.0 if place.within else 0.0,
            1.0 if not first <= number <= last else 0.0,
            math.log1p(prose[number - 1]) / 5 if number else 0.0,
            math.log1p(prose[number + 1]) / 5 if number + 1 < len(blocks) else 0.0,
            1.0 if times[text] > 1 else 0.0,
            1.0 if block.link_density > 0.7 and text.count(" ") > 2 else 0.0,
            asks(text) if with_asks else 0.0,
            1.0 if place.strong <= 2 else 0.0,
        ))  # fmt: skip
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(NAMES))


def _places(blocks: Sequence[Block]) -> dict[int, _Place]:
    """By the identity of the holder; each inherits from the one around it."""
    places: dict[int, _Place] = {}
    for block in blocks:
        chain: list[Holder] = []
        holder: Holder | None = block.holder
        while holder is not None and id(holder) not in places:
            chain.append(holder)
            holder = holder.parent
        above = places[id(holder)] if holder is not None else _Place(False, False, False, False, False)
        for each in reversed(chain):
            boilerplate, body, caption, strong = _named(each.names) if each.names else (False,) * 4
            whole = each.tag in ("body", "article", "main")  # whose names say little: pages call it `has-sidebar`
            above = _Place(
                above.boilerplate or (boilerplate and not body and not whole),
                above.body or body,
                above.around or each.tag in _AROUND,
                above.article or each.tag in ("article", "main"),
                above.caption or caption or each.tag == "figcaption",
                9 if whole else 0 if strong else above.strong + 1,
            )
            places[id(each)] = above
    return places


def _mark_container(blocks: Sequence[Block], prose: Sequence[int], places: dict[int, _Place]) -> float:
    """Long paragraphs count for the element around them, and half for the one around that (as in Readability)."""
    holders: dict[int, Holder] = {}
    for block, length in zip(blocks, prose, strict=True):
        place = places[id(block.holder)]
        if length < _LONG or block.linked > length or place.boilerplate or place.around or place.caption:
            continue
        near = block.holder if block.holder.parent is None or block.holder.tag == "div" else block.holder.parent
        far = near.parent
        holders[id(near)] = near
        places[id(near)].prose += length
        if far is not None:
            holders[id(far)] = far
            places[id(far)].prose += length / 2
    if not holders:
        return 1.0
    best = max(holders.values(), key=lambda holder: places[id(holder)].prose)
    inside = {id(best)}
    outside: set[int] = set()
    for block in blocks:
        chain: list[int] = []
        holder: Holder | None = block.holder
        while holder is not None and id(holder) not in inside and id(holder) not in outside:
            chain.append(id(holder))
            holder = holder.parent
        (inside if holder is not None and id(holder) in inside else outside).update(chain)
    for holder_id in inside:
        places[holder_id].within = True
    return places[id(best)].prose


def _prose_range(blocks: Sequence[Block], prose: Sequence[int], places: dict[int, _Place]) -> tuple[int, int]:
    long = [
        number
        for number, block in enumerate(blocks)
        if prose[number] >= _LONG
        and block.linked < prose[number]
        and places[id(block.holder)].within
        and not places[id(block.holder)].boilerplate
    ]
    return (long[0], long[-1]) if long else (0, len(blocks))
