"""The main text of a web page as Markdown, and why each block of the page was kept or left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lmworks.data.extractors.xhtml import tree_to_markdown
from lmworks.data.web import scanning
from lmworks.data.web.blocks import Block, blocks_of, erase, parse
from lmworks.data.web.choosing import Choice, Choices, Mode, choose, decide, with_headline

_LARGE = 2_000_000  # characters: a page of more is read in the fast mode, since trafilatura might take minutes


@dataclass(frozen=True, slots=True)
class MainText:
    """What a page says. `markdown` is empty for a page without text; `choices` are all its blocks, in their order."""

    markdown: str
    title: str
    choices: Sequence[Choice]


def extract_main(html: str, mode: Mode = "default", headline: bool = False) -> MainText:
    """The main text of a page of decoded characters: no navigation, banners, footers, comments and advertising.

    The default mode also asks trafilatura (Barbaresi, 2021) which parts it would keep, and weighs that with its own
    features; the fast mode does without, and reads the page by compiled code where that was built. With `headline`, the
    last `h1` before the text is part of it. Raises UnusableError for a page that cannot be parsed, or in part only.
    """
    if (mode == "fast" or len(html) > _LARGE) and (page := scanning.scan(html)) is not None:
        choices = decide(page.texts, page.tags, page.measured)
        if headline:
            choices = with_headline(page.tags, choices)
        return MainText(page.markdown(choices.kept), page.title, choices)
    tree = parse(html)
    if tree is None:
        return MainText("", "", ())
    title = " ".join(str(tree.findtext("head/title") or "").split())
    blocks = blocks_of(tree)
    choices = choose(blocks, html, mode)
    if headline:
        choices = with_headline([block.holder.tag for block in blocks], choices)
    return MainText(_markdown(tree, blocks, choices), title, choices)


def _markdown(tree: Any, blocks: Sequence[Block], choices: Choices) -> str:
    """The tree without the text of what was left out. Rules and formulas have no text: they go where none is around."""
    kept = [block for block, keep in zip(blocks, choices.kept, strict=True) if keep]
    if not kept:
        return ""
    erase(block for block, keep in zip(blocks, choices.kept, strict=True) if not keep)
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
