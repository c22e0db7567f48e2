"""What of a text in Markdown is prose: no blocks of code, and nothing that only draws a table.

Braces, commands and bars repeat in any code and any table, however good the text around them is; so do the lines that
part one section from the next.
"""

import re
from dataclasses import replace

from lmworks.corpus.taggers.tagger import Text

_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*\Z)|~{3,})")
_ROW = re.compile(r"\s*\|.*\|\s*")
_RULE = re.compile(r"[\s|:-]*")
_BREAK = re.compile(r" {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}")


def prose(text: Text) -> Text:
    """The text without its fenced blocks of code (CommonMark, section 4.5) and thematic breaks (4.1), and with the
    cells of tables (GitHub Flavored Markdown, section 4.10) apart by spaces. The same one where it has none of them.

    Of other formats than Markdown, such as reStructuredText, what underlines a heading is neither fence nor break:
    those stand behind an empty line, and a fence is one only with another that closes it.
    """
    if not any(sign in text.text for sign in ("```", "~~~", "|", "---", "***", "___", "* * *", "- - -")):
        return text
    kept: list[str] = []
    for line in _without_code(text.lines):
        if "|" in line:
            if not _is_rule(line):
                kept.append(_cells(line) if _ROW.fullmatch(line) else line)
        elif not _BREAK.fullmatch(line) or (kept and kept[-1].strip()):
            kept.append(line)
    return replace(text, text="\n".join(kept)) if kept != text.lines else text


def _without_code(lines: list[str]) -> list[str]:
    kept: list[str] = []
    fence, held = "", 0
    for line in lines:
        kept.append(line)
        if not (opening := _FENCE.match(line)):
            continue
        if not fence:
            if opening[1][0] == "`" or len(kept) == 1 or not kept[-2].strip():
                fence, held = opening[1], len(kept) - 1  # of the lines that stay
        elif opening[1].startswith(fence) and not line.strip().strip(fence[0]):
            del kept[held:]
            fence = ""
    return kept


def _is_rule(line: str) -> bool:
    """Whether a line is the one below the head of a table."""
    return "|" in line and "-" in line and _RULE.fullmatch(line) is not None


def _cells(line: str) -> str:
    """A row of a table; a bar behind a backslash is part of its cell."""
    return re.sub(r"(?<!\\)\|", " ", line).strip()
