"""The main text of a web page as Markdown: logistic regression on features of its blocks, and a few rules.

The weights were fitted to half of the pages of scrapinghub/article-extraction-benchmark, by
`benchmarks/contenders/web_training.py`; the other half, and all other pages, only measure them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lmworks.corpus.documents import Extracted, UnusableError
from lmworks.corpus.extract.charset import decode_html
from lmworks.corpus.extract.html_to_markdown import HEADINGS, parse_html, tree_to_markdown
from lmworks.corpus.extract.page_metadata import names_code, page_metadata
from lmworks.corpus.extract.text_blocks import Block, TextBlocks, asks, features, tables_around, text_blocks

EXTRACTOR_VERSION = "5"
WEIGHTS: Mapping[str, float] = {  # of each feature
    "bias": -1.14,
    "length": -0.05,  # logarithm of the characters, by 6
    "links": -2.03,  # share of the characters that are links
    "sentence": 1.15,  # ends as a sentence does
    "commas": 0.57,  # in it, up to three, and semicolons
    "heading": -0.14,
    "item": 0.22,  # of a list
    "preformatted or quoted": 0.82,  # or a cell of a table
    "in container": 1.80,  # in the element that holds most of the prose
    "outside of its prose": -2.51,  # before the first long paragraph of that element, or after its last
    "prose of siblings": 1.55,  # share of the page's prose that stands in the same place
    "prose before": 0.38,  # neighbours: the length of the block before, less what is links
    "prose after": 0.52,
    "all link": -1.72,  # some words that are all link: they point to another page
    "named close by": -1.37,  # boilerplate by the names of the element itself or of the two around it
    "asks the reader": -1.97,  # to subscribe, share, read on; or names rights and authors; English only
}
_LINKS, _WITHIN, ASKS = map([*WEIGHTS].index, ("links", "in container", "asks the reader"))
_PARTS = frozenset(("h2", "h3", "h4", "h5", "h6", "li", "pre", "td", "th", "dt", "dd", "caption"))  # and all in tables
_HALF = 0.5

Mask = NDArray[np.bool_]  # for each block of a page, whether it is main text
Table = NDArray[np.float64]  # the features of each block


def extract_html(raw: bytes, charset: str | None = None, web: Literal["main", "whole"] = "main") -> Extracted:
    """The main text of a page: without navigation, advertising, comments and what else stands around it.

    Headings, lists, tables, code and emphasis are kept as Markdown; nothing is fetched. `charset` is what came with the
    page, in the header of HTTP; `web="whole"` gives all text that is not hidden. `metadata`: `encoding`; `date`,
    `language`, `licence` (SPDX) or `licence_address` where the page states them; `kind`, which is `manual`, of
    documentation; `web`, where it is not `main`. Raises UnusableError for a page without main text, or one that can be
    parsed in part only.
    """
    decoded = decode_html(raw, charset)
    if not decoded.text.strip():
        raise UnusableError("empty")
    tree = parse_html(decoded.text)
    stated = {} if tree is None else page_metadata(tree)
    is_whole = web == "whole"
    markdown = "" if tree is None else tree_to_markdown(tree) if is_whole else _main_text(tree, headline=True)
    if not markdown.strip():
        raise UnusableError(f"a page without {'text' if is_whole else 'main text'}")
    title = stated.pop("title", "")
    facts = {"web": web} if is_whole else {}
    facts |= {"kind": "manual"} if names_code(markdown) else {}
    return Extracted(markdown, "web-page", EXTRACTOR_VERSION, title, {**decoded.metadata, **stated, **facts})


def extract_main(html: str, headline: bool = False) -> str:
    """The main text of a page of decoded characters as Markdown, without banners, menus, comments and advertising; with
    `headline`, the last `h1` before the text is part of it.

    Raises UnusableError for a page that cannot be parsed, or in part only.
    """
    tree = parse_html(html)
    return "" if tree is None else _main_text(tree, headline)


def _main_text(tree: Any, headline: bool) -> str:
    page = text_blocks(tree)
    if not page.blocks:
        return ""
    is_main = decide(page, features(page))
    return _markdown(page, _with_headline(page, is_main) if headline else is_main)


def decide(page: TextBlocks, table: Table, weights: Sequence[float] = tuple(WEIGHTS.values())) -> Mask:
    """Which blocks of the page, of which there are some, are main text, by the features that `features` found last."""
    sums = (table * weights).sum(axis=1)
    for number in np.flatnonzero((sums > 0) & (sums < -weights[ASKS])).tolist():  # where it decides
        sums[number] += weights[ASKS] * asks(page.blocks[number].text)
    boilerplate = np.array([block.holder.boilerplate or block.holder.around for block in page.blocks])
    captions = np.array([block.holder.caption for block in page.blocks])
    is_main = (sums >= 0) & ~captions
    if not is_main.any():  # no prose: all that is not links or boilerplate; the only text of a page is what it says
        is_main = (~boilerplate & (table[:, _LINKS] <= _HALF)) | (len(table) == 1)
    tables = np.where(captions, -1, tables_around(page))
    # Headings, items, cells and code between kept blocks: a text continues through what is no prose. They must stand in
    # the element that holds the prose, outside of what is named as boilerplate, and not be links.
    parts = (tables >= 0) | [block.holder.tag in _PARTS for block in page.blocks]
    open_to = parts & ~boilerplate & ~captions & (table[:, _WITHIN] > 0) & (table[:, _LINKS] < _HALF)
    between = open_to & np.maximum.accumulate(is_main) & np.maximum.accumulate(is_main[::-1])[::-1]
    return _whole_tables(page, table, tables, is_main | between)


def _whole_tables(page: TextBlocks, table: Table, tables: NDArray[np.int64], is_main: Mask) -> Mask:
    """The choice with each table whole or left out: whole where more than half is of what is no link in it.

    A table that the container is a part of, or that is all there is in it, is a means of layout. One that is all that
    is main text stays as it is.
    """
    tables = tables + 1
    if not tables.any():
        return is_main
    prose = np.array([len(block.text) for block in page.blocks]) * (1 - table[:, _LINKS])
    whole = 2 * np.bincount(tables, prose * is_main) > np.bincount(tables, prose)
    within = np.bincount(tables, table[:, _WITHIN])
    sound = (within == 0) | ((within == np.bincount(tables)) & (within < within.sum()))
    changed = np.where((tables > 0) & sound[tables], whole[tables], is_main)
    return changed if changed.any() else is_main


def _with_headline(page: TextBlocks, is_main: Mask) -> Mask:
    """With the headline of the main text: the heading right before the first kept block, or else, where the text does
    not begin with a heading of its own, the last `h1` before it."""
    tags = [block.holder.tag for block in page.blocks]
    first = int(is_main.argmax()) if is_main.any() else 0
    near = first - 1 if first and tags[first - 1] in HEADINGS else None
    if near is None and first and tags[first] not in HEADINGS:
        near = next((number for number in range(first - 1, -1, -1) if tags[number] == "h1"), None)
    return is_main if near is None else is_main | (np.arange(len(is_main)) == near)


def _markdown(page: TextBlocks, is_main: Mask) -> str:
    """The tree without the text of what was left out. Rules and formulas have no text: they go where none is around."""
    if not is_main.any():
        return ""
    for number in np.flatnonzero(~is_main).tolist():
        for element, is_tail in page.blocks[number].pieces:
            setattr(element, "tail" if is_tail else "text", None)
    indices = np.flatnonzero(is_main)
    return tree_to_markdown(_smallest_around(page.blocks[indices[0]], page.blocks[indices[-1]]))


def _smallest_around(first: Block, last: Block) -> Any:
    """The innermost element that holds both, and so all between them."""
    one, other = first.holder, last.holder
    while one is not other:
        if other.depth > one.depth and other.parent is not None:
            other = other.parent
        elif one.parent is not None:
            one = one.parent
    return one.element
