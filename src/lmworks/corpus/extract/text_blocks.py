"""A web page as blocks of text, and the features of each by which main text is chosen.

A block is the run of text between the starts and ends of block elements. The features are few, and about what pages
have in common: the only words of a language are those of "asks the reader". The place of a block counts most: whether
it is in the element that holds most of the page's prose.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmworks.corpus.extract.html_to_markdown import BLOCKS, HEADINGS, HIDDEN, LEFT_OUT

_LONG = 80  # characters from which on a run of text is prose
_WIDE = re.compile("[\u3000-\ud7a3]")

# Names of classes and ids that say it anywhere in them, at the start of a word, and as a whole word.
_DISCUSSION = re.compile("comment|disqus|livefyre")
_BOILERPLATE = re.compile(
    "addthis|advert|author|banner|breadcrumb|byline|consent|cookie|copyright|correction|credit|disclaimer|excerpt"
    "|footer|gdpr|hidden|login|masthead|menu|modal|more-|most-read|most-viewed|newsletter|outbrain|pagination|popular"
    "|popup|print-|promo|read-more|read-next|readmore|readnext|recirc|recommend|related|share|sharing|sidebar|sign-up"
    "|signup|social|sponsor|subscri|taboola|teaser|timestamp|toolbar|trending|widget|comment|disqus|livefyre"
    "|(?<![a-z])(?:nav|search)|(?<![a-z])(?:ad|ads|bio|meta|rail|respond|tag|tags)(?![a-z])"
)
_SECTION = re.compile(r"(?<!\S)(?:appendix|chapter|preface|section)(?!\S)")  # classes of a part of a longer text
_ASKS = re.compile(  # of a text in lower case
    r"\b(?:click here|read more|read also|see also|also read|sign up|subscri|newsletter|follow (?:us|me|him|her|@)"
    r"|share (?:it|this)|like this|all rights reserved|copyright|getty|photo(?:graph)?s? (?:by|:)"
    r"|image (?:credit|copyright)|advertis|privacy|cookie|terms of|download the|our app\b|the .{0,20}app\b"
    r"|more stories|related|contact (?:us|the)|comments?\b|inbox|your e-?mail|e-?mail (?:us|address)|log ?in"
    r"|sponsored|affiliate|commission|this (?:story|article)|reporting by|editing by|contributed to|written by"
    r"|is a (?:writer|reporter|senior|staff))|©"
)
_ASKS_LENGTH = 300  # characters: longer text that has these words is about them
_AROUND = frozenset(("nav", "footer", "aside", "header", "form"))
_SENTENCE_END = re.compile(r"[.!?…。！？:؟।][\"'”’»)\]」』]*$")
_COMMA = re.compile("[,;،、，]")
_MAJORITY = 0.5  # of the page's prose: an element that holds more is no boilerplate, whatever it is called
_VAST_MAJORITY = 0.9  # the same for the discussion, which may well be longer than what is discussed
_CONTAINER = 0.7  # of the prose that is not boilerplate: what the container holds at least
_FAR = 9


@dataclass(slots=True, eq=False)
class Holder:
    """A block element: what its blocks inherit from it and from those around it."""

    element: Any
    parent: "Holder | None"
    tag: str
    names: str  # its class, id, role and itemprop, lower-cased
    depth: int  # holders around it
    number: int  # among the holders of the page, those around it first
    # What `features` finds out.
    boilerplate: bool = False  # by names
    around: bool = False  # a nav, footer, aside, header or form
    caption: bool = False
    named: int = _FAR  # elements out from here to a name of boilerplate
    within: bool = False  # in the container
    prose: float = 0.0  # of the paragraphs right in it, and half of those one element further in


@dataclass(slots=True)
class Block:
    """One run of text. `pieces` are the places in the tree that hold it: `(element, whether it is the tail)`."""

    text: str
    holder: Holder
    linked: int  # characters inside of links
    pieces: list[tuple[Any, bool]]


@dataclass(frozen=True, slots=True)
class TextBlocks:
    """A page: its blocks, and the elements that hold them."""

    blocks: Sequence[Block]
    holders: Sequence[Holder]


# ---------------------------------------------------------------------------------------------------------------------
# Blocks


def text_blocks(tree: Any) -> TextBlocks:
    """All blocks of a page with text in them that is not hidden. Takes scripts, styles and controls out of the tree."""
    import lxml.etree as etree

    etree.strip_elements(tree, *LEFT_OUT, "button", with_tail=False)
    body = tree.find("body")
    root = tree if body is None else body
    for name in ("style", "hidden"):  # pages hide their body until a script shows it
        root.attrib.pop(name, None)
    blocks: list[Block] = []
    holder = Holder(root, None, "body", "", 0, 0)
    holders = [holder]
    texts: list[str] = []
    pieces: list[tuple[Any, bool]] = []
    linked = in_link = 0

    def add(text: str | None, element: Any, is_tail: bool) -> None:
        nonlocal linked
        if text:
            texts.append(text)
            pieces.append((element, is_tail))
            linked += _length(text) if in_link else 0

    def flush() -> None:
        nonlocal linked
        if text := " ".join("".join(texts).split()):
            blocks.append(Block(text, holder, linked, pieces.copy()))
        texts.clear()
        pieces.clear()
        linked = 0

    walk = etree.iterwalk(root, events=("start", "end"))
    for event, element in walk:
        tag = element.tag
        if tag in BLOCKS:
            flush()
        if event == "start":
            attributes = element.items()
            if tag in BLOCKS:
                names = " ".join([value for name, value in attributes if name in ("class", "id", "role", "itemprop")])
                holder = Holder(element, holder, tag, names.lower(), holder.depth + 1, len(holders))
                holders.append(holder)
            elif tag == "a":
                in_link += element.get("href") is not None
            if attributes and element is not root and _is_hidden(attributes):
                walk.skip_subtree()
            else:
                add(element.text, element, False)
            continue
        if tag in BLOCKS:
            holder = holder.parent or holder
        elif tag == "a":
            in_link -= element.get("href") is not None
        elif tag == "br":
            texts.append(" ")
        if element is not root:
            add(element.tail, element, True)
    flush()
    return TextBlocks(blocks, holders)


def _is_hidden(attributes: Sequence[tuple[str, str]]) -> bool:
    return any(name == "hidden" or (name == "style" and HIDDEN.search(value)) for name, value in attributes)


def _length(text: str) -> int:
    """In characters, with white space as one."""
    return width(" ".join(text.split()))


def width(text: str) -> int:
    """Its characters, those of Chinese, Japanese and Korean counted twice: they say more each."""
    return len(text) if text.isascii() else len(text) + len(_WIDE.findall(text))


# ---------------------------------------------------------------------------------------------------------------------
# Features


def features(page: TextBlocks) -> NDArray[np.float64]:
    """A row for each block, of which there is one at least, a column for each of `main_content.WEIGHTS`; of "asks the
    reader", which is costly and only ever takes away, 0. The holders are told what they are.
    """
    blocks = page.blocks
    widths = [width(block.text) for block in blocks]
    prose = [max(0, total - block.linked) for total, block in zip(widths, blocks, strict=True)]
    # What of it is in long paragraphs.
    long = [n if n >= _LONG and block.linked <= n else 0 for block, n in zip(blocks, prose, strict=True)]
    # Each holder is told what those around it are. What an element is called says nothing where it holds most of the
    # page's prose: pages call it `has-sidebar`, and some have all of their text in a form.
    sums = _sums(page, long)
    for holder in page.holders:
        above = holder.parent or Holder(None, None, "", "", 0, 0)
        boilerplate, discussion = _named(holder.names) if holder.names else (False, False)
        share = _VAST_MAJORITY if discussion else _MAJORITY
        whole = holder.tag in ("body", "article", "main") or sums[holder.number] > share * sums[0]
        holder.boilerplate = above.boilerplate or (boilerplate and not whole)
        holder.around = above.around or (holder.tag in _AROUND and not whole)
        holder.caption = above.caption or holder.tag == "figcaption"
        holder.named = _FAR if whole else 0 if boilerplate else above.named + 1
        holder.within, holder.prose = False, 0.0
    most = _mark_container(page, long)
    inner = [at for at, block in enumerate(blocks) if long[at] and block.holder.within and not block.holder.boilerplate]
    first, last = (inner[0], inner[-1]) if inner else (0, len(blocks))
    rows: list[tuple[float, ...]] = []
    for number, block in enumerate(blocks):
        text, place, tag = block.text, block.holder, block.holder.tag
        links = min(1.0, block.linked / widths[number])
        rows.append((
            1.0,
            math.log1p(min(widths[number] / 6, 100)),
            links,
            _SENTENCE_END.search(text, max(0, len(text) - 4)) is not None,
            min(3, len(_COMMA.findall(text))) / 3,
            tag in HEADINGS,
            tag == "li",
            tag in ("pre", "blockquote", "td", "th"),
            place.within,
            not first <= number <= last,
            max(place.prose, (place.parent or place).prose) / most,
            math.log1p(prose[number - 1]) / 5 if number else 0.0,
            math.log1p(prose[number + 1]) / 5 if number + 1 < len(blocks) else 0.0,
            links > 0.7 and text.count(" ") > 2,
            place.named <= 2,
            0.0,
        ))  # fmt: skip
    return np.array(rows, dtype=np.float64)


def asks(text: str) -> bool:
    """Whether a short text asks the reader for something, or names rights and authors."""
    return len(text) < _ASKS_LENGTH and _ASKS.search(text.lower()) is not None


@lru_cache(maxsize=4096)
def _named(names: str) -> tuple[bool, bool]:
    """Whether they name boilerplate, and whether that is a discussion."""
    return _BOILERPLATE.search(names) is not None, _DISCUSSION.search(names) is not None


def tables_around(page: TextBlocks) -> NDArray[np.int64]:
    """For each block the innermost table or list of terms around it, by a number from 0 on; -1 for none.

    A table that holds tables is a means of layout: none.
    """
    found: list[int] = []
    layouts = {-1}
    texts = _sums(page, [1] * len(page.blocks))
    for holder in page.holders:
        above = found[holder.parent.number] if holder.parent is not None else -1
        if holder.tag == "table" and texts[holder.number]:
            layouts.add(above)
        found.append(holder.number if holder.tag in ("table", "dl") else above)
    own = (found[block.holder.number] for block in page.blocks)
    return np.array([-1 if table in layouts else table for table in own], dtype=np.int64)


def _sums(page: TextBlocks, amounts: Sequence[int]) -> list[int]:
    """For each holder, what all blocks in it come to."""
    sums = [0] * len(page.holders)
    for block, amount in zip(page.blocks, amounts, strict=True):
        sums[block.holder.number] += amount
    for holder in reversed(page.holders):
        if holder.parent is not None:
            sums[holder.parent.number] += sums[holder.number]
    return sums


def _is_section(holder: Holder) -> bool:
    """Whether it is a part of a longer text, as HTML and DocBook mark them."""
    return holder.tag == "section" or (holder.tag == "div" and _SECTION.search(holder.names) is not None)


def _mark_container(page: TextBlocks, long: Sequence[int]) -> float:
    """Marks the innermost element that holds most of the prose. Returns the most prose that stands in one place.

    Where that is a section within sections, such as the longest on a page of a manual, it is the outermost of them. A
    long paragraph counts for the element around it, and half for the one around that (as in Readability).
    """
    counted = [0] * len(page.blocks)
    for number, block in enumerate(page.blocks):
        holder = block.holder
        if not long[number] or holder.boilerplate or holder.around or holder.caption:
            continue
        counted[number] = long[number]
        near = holder if holder.parent is None or holder.tag == "div" else holder.parent
        near.prose += long[number]
        if near.parent is not None:
            near.parent.prose += long[number] / 2
    if not any(counted):
        return 1.0
    sums = _sums(page, counted)
    enough = _CONTAINER * sum(counted)
    best = max((each for each in page.holders if sums[each.number] >= enough), key=lambda holder: holder.depth)
    if best.tag in ("p", "li", "td", "blockquote") and best.parent is not None:
        best = best.parent
    while _is_section(best) and best.parent is not None and _is_section(best.parent):
        best = best.parent
    for holder in page.holders:
        holder.within = holder is best or (holder.parent is not None and holder.parent.within)
    return max(holder.prose for holder in page.holders)
