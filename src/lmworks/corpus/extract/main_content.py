"""The main text of a web page as Markdown: logistic regression on features of its blocks, and a few rules.

The weights were fitted to half of the pages of scrapinghub/article-extraction-benchmark, by
`benchmarks/contenders/web_training.py`; the other half, and all other pages, only measure them.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lmworks.corpus.documents import Extracted, UnusableError
from lmworks.corpus.extract.charset import decode_html
from lmworks.corpus.extract.html_to_markdown import HEADINGS, parse_html, tree_to_markdown
from lmworks.corpus.extract.page_metadata import names_code, page_metadata
from lmworks.corpus.extract.text_blocks import Block, TextBlocks, asks, features, tables_around, text_blocks, width

EXTRACTOR_VERSION = "3"
Mode = Literal["default", "fast"]
# The weight of each feature in the default and in the fast mode. Of the last two there are none in the fast mode.
WEIGHTS: Mapping[str, tuple[float, float]] = {
    "bias": (-1.11, -1.14),
    "length": (-0.22, -0.05),  # logarithm of the characters, by 6
    "links": (-2.07, -2.03),  # share of the characters that are links
    "sentence": (1.03, 1.15),  # ends as a sentence does
    "commas": (0.65, 0.57),  # in it, up to three, and semicolons
    "heading": (-0.66, -0.14),
    "item": (0.22, 0.22),  # of a list
    "preformatted or quoted": (0.91, 0.82),  # or a cell of a table
    "in container": (1.00, 1.80),  # in the element that holds most of the prose
    "outside of its prose": (-2.44, -2.51),  # before the first long paragraph of that element, or after its last
    "prose of siblings": (0.81, 1.55),  # share of the page's prose that stands in the same place
    "prose before": (0.20, 0.38),  # neighbours: the length of the block before, less what is links
    "prose after": (0.52, 0.52),
    "all link": (-1.75, -1.72),  # some words that are all link: they point to another page
    "named close by": (-1.10, -1.37),  # boilerplate by the names of the element itself or of the two around it
    "asks the reader": (-1.79, -1.97),  # to subscribe, share, read on; or names rights and authors; English only
    "agreement": (1.12, 0.0),  # share of the words that another extractor keeps,
    "agreement of siblings": (1.45, 0.0),  # and the same of what stands next to the block
}
WITH_AGREEMENT = tuple(WEIGHTS)
NAMES = WITH_AGREEMENT[:-2]
_LINKS, _WITHIN, ASKS, _AGREEMENT = map(WITH_AGREEMENT.index, ("links", "in container", "asks the reader", "agreement"))
_LARGE = 2_000_000  # characters: a page of more is read in the fast mode, since trafilatura might take minutes
_MAX_DEPTH = 200  # of elements, up to which trafilatura is asked: it calls itself for each level
_PARTS = frozenset(("h2", "h3", "h4", "h5", "h6", "li", "pre", "td", "th", "dt", "dd", "caption"))  # and all in tables
_WORD = re.compile(r"\w+")
_ROW = 4  # words
_HALF = 0.5

Kept = NDArray[np.bool_]  # for each block of a page, whether it is main text
Table = NDArray[np.float64]  # the features of each block, with agreement or without


def extract_html(raw: bytes, charset: str | None = None, web: Literal["main", "fast", "whole"] = "main") -> Extracted:
    """The main text of a page: without navigation, advertising, comments and what else stands around it.

    Headings, lists, tables, code and emphasis are kept as Markdown; nothing is fetched. `charset` is what came with the
    page, in the header of HTTP. `web`: `fast` asks trafilatura nothing, in a third of the time; `whole` gives all text
    that is not hidden. `metadata`: `encoding`; `date`, `language`, `licence` (SPDX) or `licence_address` where the page
    states them; `kind`, which is `manual`, of documentation; `web`, where it is not `main`. Raises UnusableError for a
    page without main text, or one that can be parsed in part only.
    """
    decoded = decode_html(raw, charset)
    html = decoded.text
    if not html.strip():
        raise UnusableError("empty")
    tree = parse_html(html)
    stated = {} if tree is None else page_metadata(tree)
    if web == "whole":
        markdown = "" if tree is None else tree_to_markdown(tree)
    else:
        markdown = _main_text(tree, html, "fast" if web == "fast" else "default", headline=True)
    if not markdown.strip():
        raise UnusableError(f"a page without {'text' if web == 'whole' else 'main text'}")
    title = stated.pop("title", "")
    facts = {} if web == "main" else {"web": web}
    facts |= {"kind": "manual"} if names_code(markdown) else {}
    return Extracted(markdown, "web-page", EXTRACTOR_VERSION, title, {**decoded.metadata, **stated, **facts})


def extract_main(html: str, mode: Mode = "default", headline: bool = False) -> str:
    """The main text of a page of decoded characters as Markdown, without banners, menus, comments and advertising.

    The default mode also asks trafilatura (Barbaresi, 2021) which parts it would keep, and weighs that with its own
    features; the fast mode does without. With `headline`, the last `h1` before the text is part of it.
    Raises UnusableError for a page that cannot be parsed, or in part only.
    """
    return _main_text(parse_html(html), html, mode, headline)


def _main_text(tree: Any, html: str, mode: Mode, headline: bool) -> str:
    page = TextBlocks((), ()) if tree is None else text_blocks(tree)
    if not page.blocks:
        return ""
    kept = choose(page, html, "fast" if len(html) > _LARGE else mode)
    return _markdown(page, _with_headline(page, kept) if headline else kept)


def choose(page: TextBlocks, html: str, mode: Mode) -> Kept:
    """Which blocks of the page, of which there are some, are main text.

    Where the default mode keeps less than half of what trafilatura keeps, it has taken something else for the main
    text, such as a long discussion: then the prose that trafilatura keeps says where the main text is.
    """
    table = features(page)
    if mode == "fast":
        return decide(page, table)
    depth = max(block.holder.depth for block in page.blocks)
    agreement = agreement_of(page, html if depth <= _MAX_DEPTH else "")
    kept = decide(page, np.column_stack([table, agreement]))
    agreed = agreement[:, 0] * [max(0, width(block.text) - block.linked) for block in page.blocks]
    if agreed[kept].sum() < _HALF * agreed.sum():
        kept = decide(page, np.column_stack([features(page, agreement[:, 0] > _HALF), agreement]))
    return kept


def decide(page: TextBlocks, table: Table, weights: NDArray[np.float64] | None = None) -> Kept:
    """The choice by features, which `features` found last; without agreement, the model of the fast mode decides.

    `weights` are other ones than those of the mode.
    """
    if weights is None:
        is_fast = table.shape[1] == len(NAMES)
        weights = np.array([pair[is_fast] for pair in WEIGHTS.values()])[: table.shape[1]]
    sums = (table * weights).sum(axis=1)
    for number in np.flatnonzero((sums > 0) & (sums < -weights[ASKS])).tolist():  # where it decides
        sums[number] += weights[ASKS] * asks(page.blocks[number].text)
    boilerplate = np.array([block.holder.boilerplate or block.holder.around for block in page.blocks])
    captions = np.array([block.holder.caption for block in page.blocks])
    kept = (sums >= 0) & ~captions
    if not kept.any():
        kept = _without_prose(table, boilerplate)
    tables = np.where(captions, -1, tables_around(page))
    # Headings, items, cells and code between kept blocks: a text continues through what is no prose. They must stand in
    # the element that holds the prose, outside of what is named as boilerplate, and not be links.
    parts = (tables >= 0) | [block.holder.tag in _PARTS for block in page.blocks]
    open_to = parts & ~boilerplate & ~captions & (table[:, _WITHIN] > 0) & (table[:, _LINKS] < _HALF)
    between = open_to & np.maximum.accumulate(kept) & np.maximum.accumulate(kept[::-1])[::-1]
    return _whole_tables(page, table, tables, kept | between)


def _without_prose(table: Table, boilerplate: Kept) -> Kept:
    """The choice of trafilatura for a page on which the model finds nothing; else all that is not links or boilerplate.

    The only text of a page is what it says, though it be a link.
    """
    if table.shape[1] > _AGREEMENT and (table[:, _AGREEMENT] > _HALF).any():
        return table[:, _AGREEMENT] > _HALF
    return (~boilerplate & (table[:, _LINKS] <= _HALF)) | (len(table) == 1)


def _whole_tables(page: TextBlocks, table: Table, tables: NDArray[np.int64], kept: Kept) -> Kept:
    """The choice with each table whole or left out: whole where more than half is of what is no link in it.

    A table that the container is a part of, or that is all there is in it, is a means of layout. One that is all that
    is kept stays as it is.
    """
    tables = tables + 1
    if not tables.any():
        return kept
    prose = np.array([len(block.text) for block in page.blocks]) * (1 - table[:, _LINKS])
    whole = 2 * np.bincount(tables, prose * kept) > np.bincount(tables, prose)
    within = np.bincount(tables, table[:, _WITHIN])
    sound = (within == 0) | ((within == np.bincount(tables)) & (within < within.sum()))
    changed = np.where((tables > 0) & sound[tables], whole[tables], kept)
    return changed if changed.any() else kept


def _with_headline(page: TextBlocks, kept: Kept) -> Kept:
    """With the headline of the main text: the heading right before the first kept block, or else, where the text does
    not begin with a heading of its own, the last `h1` before it."""
    tags = [block.holder.tag for block in page.blocks]
    first = int(kept.argmax()) if kept.any() else 0
    near = first - 1 if first and tags[first - 1] in HEADINGS else None
    if near is None and first and tags[first] not in HEADINGS:
        near = next((number for number in range(first - 1, -1, -1) if tags[number] == "h1"), None)
    return kept if near is None else kept | (np.arange(len(kept)) == near)


def agreement_of(page: TextBlocks, html: str) -> NDArray[np.float64]:
    """The share of each block's rows of four words that trafilatura keeps, which looks at the page by other rules.

    And that share for all that stands next to the block, by its prose: a paragraph that trafilatura has missed stands
    among others that it has kept.
    """
    import trafilatura

    found = np.zeros((len(page.blocks), 2))
    kept = _rows(trafilatura.extract(html, fast=True, include_comments=False) or "") if html else None
    if not kept:
        return found
    rows = [_rows(block.text) for block in page.blocks]
    found[:, 0] = [len(own & kept) / max(1, len(own)) for own in rows]
    beside = np.array([(block.holder.parent or block.holder).number for block in page.blocks])
    prose = np.array([max(1, width(block.text) - block.linked) for block in page.blocks])
    found[:, 1] = (np.bincount(beside, found[:, 0] * prose) / np.maximum(1, np.bincount(beside, prose)))[beside]
    return found


def _rows(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text)
    return set(zip(*(words[at:] for at in range(_ROW)), strict=False)) or ({tuple(words)} if words else set())


def _markdown(page: TextBlocks, kept: Kept) -> str:
    """The tree without the text of what was left out. Rules and formulas have no text: they go where none is around."""
    if not kept.any():
        return ""
    for number in np.flatnonzero(~kept).tolist():
        for element, is_tail in page.blocks[number].pieces:
            setattr(element, "tail" if is_tail else "text", None)
    places = np.flatnonzero(kept)
    return tree_to_markdown(_smallest_around(page.blocks[places[0]], page.blocks[places[-1]]))


def _smallest_around(first: Block, last: Block) -> Any:
    """The innermost element that holds both, and so all between them."""
    one, other = first.holder, last.holder
    while one is not other:
        if other.depth > one.depth and other.parent is not None:
            other = other.parent
        elif one.parent is not None:
            one = one.parent
    return one.element
