"""Remains of a web page's machinery in its plain text, and characters that were garbled on the way."""

import unicodedata
from collections import Counter
from collections.abc import Iterator
from itertools import groupby, takewhile

from lmworks.corpus.edits import apply_edits, compose
from lmworks.corpus.modifiers.text_lines import cut_lines, fenced, split_lines
from lmworks.corpus.patterns import read_patterns
from lmworks.records import Edit

_LONGEST = 200  # characters of a line of machinery
_LONGEST_ITEM = 40  # characters of a line that is repeated as part of a navigation
_REPEATED = 3  # times that it stands in the text

PATTERNS = read_patterns(__file__)
# What Latin-1 has for control characters are letters and marks of Windows-1252, if anything: browsers read them so.
_AS_WINDOWS = {code: bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}
_CONTROLS_READ: dict[int, str] = {**dict.fromkeys((*range(0x20), 0x7F), ""), **_AS_WINDOWS}


def repair_encoding(text: str) -> list[Edit]:
    """Text that was decoded by the wrong encoding, decoded by the right one (ftfy's `fix_encoding`).

    Rule: `character.encoding`. ImportError where ftfy is not installed and the text has other than ASCII characters.
    """
    if text.isascii():
        return []
    from ftfy import fix_encoding

    return [
        Edit(start + a, start + b, new, "character.encoding")
        for line, start in zip(*split_lines(text), strict=False)
        if not line.isascii()
        for a, b, new in _differences(line, fix_encoding(line))
    ]


def _differences(line: str, fixed: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, replacement) of the words that differ; of the line, where words were joined or parted."""
    old, new = PATTERNS["token"].findall(line), PATTERNS["token"].findall(fixed)
    pairs = list(zip(old, new, strict=True)) if len(old) == len(new) else [(line, fixed)]
    start = 0
    for differ, run in groupby(pairs, key=lambda pair: pair[0] != pair[1]):
        before, after = map("".join, zip(*run, strict=True))
        if differ:
            head = _common(before, after)
            tail = _common(before[head:][::-1], after[head:][::-1])
            yield start + head, start + len(before) - tail, after[head : len(after) - tail]
        start += len(before)


def _common(one: str, other: str) -> int:
    """How many characters both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def repair_characters(text: str) -> list[Edit]:
    """Control characters and invisible ones removed, letters composed (NFC); control characters that are marks of
    Windows-1252 (U+0092 for an apostrophe) replaced. Rules: `character.control`, `character.invisible`,
    `character.composed`."""
    controls = PATTERNS["control"].finditer(text)
    edits = [Edit(*each.span(), each[0].translate(_CONTROLS_READ), "character.control") for each in controls]
    if text.isascii():
        return edits
    edits += [Edit(*each.span(), "", "character.invisible") for each in PATTERNS["invisible"].finditer(text)]
    composed = [
        Edit(start + word.start(), start + word.end(), normal, "character.composed")
        for line, start in zip(*split_lines(apply_edits(text, edits).text), strict=False)
        if not unicodedata.is_normalized("NFC", line)
        for word in PATTERNS["token"].finditer(line)
        if (normal := unicodedata.normalize("NFC", word[0])) != word[0]
    ]
    return compose(text, edits, composed)


def repair_machinery(text: str) -> list[Edit]:
    """Cut lines of a page's machinery.

    Rules: `web.cookies`; `web.machinery` for share buttons, "read more", log-ins and the like; `web.navigation` for
    lists of places, and for short lines that are no sentences and stand in the text three times, but for the first.
    """
    lines, starts = split_lines(text)
    counts = Counter(line.strip() for line in lines if len(line) <= _LONGEST_ITEM)
    seen: set[str] = set()
    rules: list[str] = []
    for line, is_code in zip(lines, fenced(lines), strict=True):
        bare = line.strip()
        rules.append("" if not bare or is_code or len(bare) > _LONGEST else _rule(bare))
        is_text = is_code or not bare or line[0] in " \t"
        # Of a navigation: no sentence, no heading, no code.
        is_item = any(map(str.isalpha, bare)) and bare[-1] not in ".!?…:;,{}()\"'”’»" and bare[0] not in "#-*+>|`=<{}()"
        if not is_text and not rules[-1] and counts[bare] >= _REPEATED and is_item:
            rules[-1] = "web.navigation" if bare in seen else ""
            seen.add(bare)
    return cut_lines(rules, starts)


def _rule(line: str) -> str:
    if PATTERNS["cookies"].search(line):
        return "web.cookies"
    if PATTERNS["machinery"].fullmatch(line.strip(" \t*_#>[]()»›→|+-")):
        return "web.machinery"
    is_list = line[0] != "|" and PATTERNS["navigation"].fullmatch(line) and len(PATTERNS["places"].findall(line)) >= 2
    return "web.navigation" if is_list else ""
