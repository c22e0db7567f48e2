"""Words, tokens and prose of a text in any script, by stated rules: no dictionary, no model.

A **word** is a run of letters and digits with their combining marks. One apostrophe, hyphen, underscore, middle dot,
soft hyphen or zero-width joiner between two of them does not end it, nor does a period or a comma between two digits:
*don't*, *well-known*, *snake_case*, *1,000.5*. (UAX #29 joins much the same; it also keeps *example.com* together, and
splits at hyphens.) Of scripts without spaces between words **each letter with its marks is a word**: Han, Hiragana,
Thai, Lao, Khmer and Myanmar; a run of Katakana is one. A **token** is a word, or any other character that is no space.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache

from lmworks.tokenizer.combining_marks import combining_marks

# Of letters only those; digits of these scripts make numbers as everywhere.
_SINGLE = (
    r"\u0e01-\u0e4f\u0e5a-\u0ecf\u0eda-\u0eff"  # Thai, Lao
    r"\u1000-\u103f\u104a-\u108f\u109a-\u109f\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa7f"  # Myanmar
    r"\u1780-\u17df"  # Khmer
    r"\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Han
    r"\u3041-\u309f"  # Hiragana; the archaic ones beyond the first plane are letters like others
)
_KATAKANA = r"\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_SYLLABIC = r"\u1200-\u137f\uac00-\ud7a3"
_JOINERS = r"'’\-\u2010\u2011_·\u00ad\u05f3\u05f4\u200c\u200d"
UNSPACED = re.compile(f"[{_SINGLE}{_KATAKANA}]")  # scripts without spaces between words
DENSE = re.compile(f"[{_SINGLE}{_KATAKANA}{_SYLLABIC}]")  # those, and Hangul and Ethiopic, whose letters are syllables


def tokens(text: str) -> list[str]:
    """Words and, each for itself, all other characters that are no space, in their order."""
    return _token_pattern().findall(text)


def words_among(found: Iterable[str]) -> list[str]:
    """The words among `tokens`: what is longer than a character can be nothing else."""
    return [token for token in found if len(token) > 1 or token.isalnum()]


def token_spans(text: str) -> list[tuple[int, int]]:
    """The places of the tokens: half-open ranges of code points."""
    return [match.span() for match in _token_pattern().finditer(text)]


def mostly(script: re.Pattern[str], words: Sequence[str]) -> bool:
    """Whether more than half of the words begin in a script: `UNSPACED` or `DENSE`."""
    return 2 * sum(1 for word in words if script.match(word)) > len(words)


@cache
def _token_pattern() -> re.Pattern[str]:
    r"""Begins with a class of characters, so that `re` skips spaces fast; what that character was is asked behind it.

    `\w` holds no combining marks, and most words have none: only where a character beyond ASCII follows are they looked
    up, since the class is large.
    """
    letter = rf"[^\W_{_SINGLE}{_KATAKANA}]"
    marks = combining_marks()
    inner = rf"[{_JOINERS}](?={letter})|[.,](?<=\d[.,])(?=\d)|(?![\x00-\x7f])[{marks}]++"
    spaced = rf"(?<={letter}){letter}*+(?:(?:{inner}){letter}*+)*"
    katakana = rf"(?<=[{_KATAKANA}])[{_KATAKANA}]*+[{marks}]*+"
    single = rf"(?<=[{_SINGLE}])(?<!\W)[{marks}]*+"
    return re.compile(rf"\S(?:{spaced}|{katakana}|{single}|)")


# ---------------------------------------------------------------------------------------------------------------------
# Prose: braces, commands and bars repeat in any code and any table, however good the text around them is

_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*\Z)|~{3,})")
_ROW = re.compile(r"\s*\|.*\|\s*")
_RULE = re.compile(r"(?=.*-)[\s|:-]*")  # the line below the head of a table
_BREAK = re.compile(r" {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}")
_BAR = re.compile(r"(?<!\\)\|")  # behind a backslash it is part of its cell
_SIGNS = ("```", "~~~", "|", "---", "***", "___", "* * *", "- - -")


def prose(text: str) -> str | None:
    """A text in Markdown without its fenced blocks of code (CommonMark, section 4.5) and thematic breaks (4.1), and
    with the cells of tables (GitHub Flavored Markdown, section 4.10) apart by spaces. None where all is prose.

    Of other formats, such as reStructuredText, what underlines a heading is neither fence nor break: those stand behind
    an empty line, and a fence is one only with another that closes it.
    """
    if not any(sign in text for sign in _SIGNS):
        return None
    lines, kept = text.split("\n"), list[str]()
    for line in _without_code(lines):
        if "|" in line:
            if not _RULE.fullmatch(line):
                kept.append(_BAR.sub(" ", line).strip() if _ROW.fullmatch(line) else line)
        elif not _BREAK.fullmatch(line) or (kept and kept[-1].strip()):
            kept.append(line)
    return None if kept == lines else "\n".join(kept)


def _without_code(lines: Sequence[str]) -> list[str]:
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
