"""The main text of a web page as Markdown, and why each block of the page was kept or left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lmworks.data.extractors.xhtml import tree_to_markdown
from lmworks.data.web.blocks import Block, blocks_of, erase, parse
from lmworks.data.web.choosing import Choice, Mode, agreement_of, choose, with_headline


@dataclass(frozen=True, slots=True)
class MainText:
    """What a page says. `markdown` is empty for a page without text; `choices` are all its blocks, in their order."""

    markdown: str
    title: str
    choices: Sequence[Choice]


def extract_main(html: str, mode: Mode = "default", headline: bool = False) -> MainText:
    """The main text of a page of decoded characters: no navigation, banners, footers, comments and advertising.

    The default mode also asks trafilatura (Barbaresi, 2021) which parts it would keep, and weighs that with its own
    features; the fast mode does without. With `headline`, the last `h1` before the text is part of it. Raises
    UnusableError for a page that cannot be parsed, or in part only.
    """
    tree = parse(html)
    if tree is None:
        return MainText("", "", ())
    title = " ".join(str(tree.findtext("head/title") or "").split())
    blocks = blocks_of(tree)
    choices = choose(blocks, agreement_of(blocks, html) if mode == "default" else None)
    if headline:
        choices = with_headline(blocks, choices)
    return MainText(_markdown(tree, blocks, choices), title, choices)


def _markdown(tree: Any, blocks: Sequence[Block], choices: Sequence[Choice]) -> str:
    """The tree without the text of what was left out. Rules and formulas have no text: they go where none is around."""
    kept = [block for block, choice in zip(blocks, choices, strict=True) if choice.kept]
    if not kept:
        return ""
    erase(block for block, choice in zip(blocks, choices, strict=True) if not choice.kept)
    return tree_to_markdown(_smallest_around(kept))


def _smallest_around(blocks: Sequence[Block]) -> Any:
    """The innermost element that holds all of the blocks: what holds the first and the last holds those between."""
    first, last = blocks[0].holder, blocks[-1].holder
    while first is not last:
        if last.depth > first.depth and last.parent is not None:
            last = last.parent
        elif first.parent is not None:
            first = first.parent
    return first.element
