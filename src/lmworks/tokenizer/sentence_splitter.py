"""Prose into sentences, as ranges of the text: made for technical writing, with its abbreviations, names and lists."""

import re
from bisect import bisect

# An end of a sentence: marks, closing quotes and brackets, then white space.
_END = re.compile(r"(?P<marks>[.!?…](?<![.!?…].)[.!?…]*)[\"'”’)\]*`]*(?=\s)")

# Line breaks that end a sentence by themselves: a blank line; a list item, field or table row on the next line; a colon
# at the end of a line above a deeper indented one.
_BREAK = re.compile(
    r"\n[ \t]*\n"
    r"|\n(?=[ \t]*(?:[-*+•][ \t]|\(?(?:\d{1,3}|[a-z])[.)][ \t]|:\w[^:\n]*:[ \t]|[|+]))"
    r"|:[ \t]*\n(?=[ \t])"
)

# Written with a dot that ends nothing; "etc." and units do end a sentence before a capital letter.
_ABBREVIATIONS = frozenset({
    "al", "approx", "apr", "aug", "cf", "ch", "dec", "dr", "e.g", "ed", "eq", "esp", "feb", "fig", "figs", "i.e",
    "incl", "jan", "jul", "jun", "mar", "mr", "mrs", "ms", "no", "nos", "nov", "oct", "p", "pp", "prof", "resp", "rev",
    "sec", "sep", "sept", "st", "ver", "viz", "vol", "vs",
})  # fmt: skip
_ACRONYM = re.compile(r"(?:[a-z]\.)+[a-z]\Z")  # L.P., U.S., D.C.: the same dot may end a sentence as well
_STARTER = re.compile(  # the words that sentences begin with, and names do not
    r"\W*(?:A|After|All|An|And|As|At|Before|But|By|For|From|He|Her|His|However|I|If|In|It|Its|On|Our|She|Since|So|Some|"
    r"That|The|Their|Then|There|These|They|This|Those|To|Under|We|What|When|Where|While|With|You)\b"
)
_LAST_WORD = re.compile(r"(?<![\w.])[\w.]*+\Z")
_NUMBERED_ITEM = re.compile(r"(?:^|\n)[ \t]*(?:\d{1,3}|[A-Za-z])\Z")
_CODE_SPAN = re.compile(r"(`(?<!``)`*)(?!`)[^\n]{1,200}?(?<!`)\1(?!`)")  # bounded, for time linear in the text

# What a sentence may start with: no lower-case word, unless it is written like a name of code (`foo()`, a_b, x.y).
_START = re.compile(
    r"[\"'“‘(\[*`<{]*(?:[^\Wa-z_]|[^\w\s\"'“‘(\[*`<{,;:.)\]}]|_|[a-z]\w*(?:\(|\.\w|_)|\w*`)|[\"“‘(\[`*]"
)


def sentence_ranges(text: str, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """Sentences of the prose `text[start:end]`, in order: `(start, end)` offsets in `text`, no white space around.

    Together they cover every character that is not white space. Code is not prose: see `retrieve.evidence_unit`.
    """
    end = len(text) if end is None else end
    breaks = {match.end() for match in _BREAK.finditer(text, start, end)}
    code = [match.span() for match in _CODE_SPAN.finditer(text, start, end)]
    for match in _END.finditer(text, start, end):
        before = bisect(code, (match.start(), end)) - 1  # the last span that begins before the marks
        in_code = before >= 0 and match.start() < code[before][1]
        if not in_code and _is_end(text, start, end, match):
            breaks.add(match.end())
    ranges: list[tuple[int, int]] = []
    previous = start
    for position in [*sorted(breaks), end]:
        first, last = trimmed(text, previous, position)
        if first < last:
            ranges.append((first, last))
        previous = position
    return ranges


def sentences(text: str) -> list[str]:
    """The texts of `sentence_ranges`."""
    return [text[first:last] for first, last in sentence_ranges(text)]


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The range without white space at its ends; empty at `end` when there is nothing else."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _is_end(text: str, start: int, end: int, match: re.Match[str]) -> bool:
    """Whether the marks end a sentence, from the word before them and the one after."""
    following = text[match.end() : min(end, match.end() + 200)].lstrip()
    if following and not _START.match(following):
        return False
    if match["marks"] != ".":
        return match["marks"] not in ("..", "...", "…") or following[:1].isupper() or not following
    before = text[max(start, match.start() - 40) : match.start()]
    word = _LAST_WORD.search(before)
    last = word[0].lower() if word else ""
    if last in _ABBREVIATIONS:
        # "No." before a number is an abbreviation, at the end of a sentence it is a word
        return last in ("no", "p", "st", "ed", "mar", "al") and not following[:1].isdigit() and last != "al"
    if _ACRONYM.match(last):
        return not following or bool(_STARTER.match(following))
    if len(last) == 1 and last.isalpha() and word and word[0].isupper() and following[:1].isupper():
        return False  # an initial: J. Smith
    return len(last) > 3 or not _NUMBERED_ITEM.search(before)
