"""Paragraphs that were wrapped at a fixed width, joined into lines; verse, tables, code, lists and headings stay.

A line was wrapped where the first word of the next one would not have fitted: prose breaks nowhere else, verse almost
always earlier. The width is the text's own, from the lengths of its lines.
"""

import re
from collections.abc import Sequence
from itertools import compress, groupby, pairwise

from lmworks.corpus.modifiers.text_lines import ends_sentence, fenced, indentation, split_lines
from lmworks.records import Edit

_FEWEST = 5  # pairs of lines without which nothing can be said
_NARROWEST, _WIDEST = 30, 160  # columns
_SLACK = 0.9  # of the width: a justified page has lines of the same width, not of the same number of characters
_FULL_SHARE = 0.8  # of the lines that go on in the next are full
_CONTINUED_SHARE = 0.3  # of the lines begin with a small letter; in verse few do
_CODE_INDENTATION = 4
_FIRST_CJK = "\u2e80"  # from here on, scripts that break between any two characters

_ITEM = re.compile(r"\s*(?:[-*+•◦‣]|[0-9]{1,2}[.)]|[a-zA-Z][.)]|\([0-9a-zA-Z]{1,3}\)|>|#\.?)\s")
# Headings, quotes, tables, directives of reStructuredText, rules; of a stripped line.
_STANDING = re.compile(r"#{1,6}\s|>|\||\.\.\s|[=\-~^*_+#. ]{3,}+$")
_DASH_END = re.compile(r"\S(?:—|--)\Z")


def repair_lines(text: str) -> list[Edit]:
    """Join the lines of wrapped paragraphs, by a space; none where the text is not wrapped. Rule: `line.wrap`."""
    lines, starts = split_lines(text)
    width = wrap_width(lines)
    edits: list[Edit] = []
    # Runs of lines without an empty one between, outside of fenced code.
    inside = [not is_code and bool(line.strip()) for line, is_code in zip(lines, fenced(lines), strict=True)]
    runs = [list(run) for is_inside, run in groupby(range(len(lines)), inside.__getitem__) if is_inside]
    for block in (run for run in runs if len(run) > 1 and width):
        joined = [_is_continued(lines[line], lines[line + 1], width) for line in block[:-1]]
        if not any(joined) or not _is_prose([lines[line] for line in block], joined):
            continue
        for line in compress(block, joined):
            before, after = lines[line].rstrip(), lines[line + 1].lstrip()
            end = starts[line + 1] + len(lines[line + 1]) - len(after)
            is_unspaced = before[-1:] >= _FIRST_CJK and after[:1] >= _FIRST_CJK
            has_dash = bool(_DASH_END.search(before[-3:])) or after.startswith("—")
            joint = "" if is_unspaced or has_dash else " "
            edits.append(Edit(starts[line] + len(before), end, joint, "line.wrap"))
    return edits


def wrap_width(lines: Sequence[str]) -> int:
    """The width in columns to which paragraphs are wrapped; 0 where they are not, or too little is there to tell."""
    bare = [line.rstrip() for line in lines]
    pairs = [(line, after) for line, after in pairwise(bare) if line and after]
    if len(pairs) < _FEWEST:
        return 0
    # Not the longest: words that were broken make lines longer.
    width = sorted(len(line) for line, _ in pairs)[int(0.8 * len(pairs))]
    if not _NARROWEST <= width <= _WIDEST:
        return 0
    continued = [
        _is_full(line, after, _SLACK * width)
        for line, after in pairs
        if (first := after.lstrip()[0]).islower() or (first.isalpha() and not first.isupper() and not first.istitle())
    ]  # a letter with which no sentence begins; all letters of a script without capitals are
    if len(continued) < max(_FEWEST, _CONTINUED_SHARE * len(pairs)) or sum(continued) < _FULL_SHARE * len(continued):
        return 0
    return width


def _is_full(line: str, after: str, width: float) -> bool:
    """Whether the first word of the next line would have reached over the width."""
    after = after.lstrip()
    word = 1 if after[:1] >= _FIRST_CJK else len(after.partition(" ")[0])
    return len(line) + 1 + word >= width


def _is_continued(before: str, after: str, width: int) -> bool:
    before = before.rstrip()
    if indentation(after) > indentation(before) or _STANDING.match(before.lstrip()) or _STANDING.match(after.strip()):
        return False
    if ends_sentence(before):  # a paragraph may end here: only the stricter test tells
        return _is_full(before, after, width + 1) and not _ITEM.match(after)
    return _is_full(before, after, _SLACK * width) or (len(before) >= 0.6 * width and after.lstrip()[:1].islower())


def _is_prose(block: Sequence[str], joined: Sequence[bool]) -> bool:
    """Neither indented as code, nor a list, a table, statements, or lines that begin with capitals as verse does."""
    count = len(block)
    bare = [line.strip() for line in block]
    return not (
        min(map(indentation, block)) >= _CODE_INDENTATION
        or sum(bool(_ITEM.match(line)) for line in block) >= 2
        or 2 * sum("   " in line or "\t" in line or "|" in line for line in bare) >= count
        or sum(line[-1:] in ";{}\\" for line in bare) >= max(2, 0.3 * count)
        or (count >= 3 and 10 * sum(line[0].isupper() for line in bare[1:]) > 7 * (count - 1))
        or (count > 2 and 10 * sum(joined) < 3 * (count - 1))
    )
