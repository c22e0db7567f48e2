"""Words that were broken at the end of a line, joined again; soft hyphens removed.

Whether a hyphen belongs to the word ("well-known") or to the line's end ("exam-ple") is decided by counts of words
that stand unbroken in the document:

1. a soft hyphen goes; a hyphen before a capital or next to a digit ("Anglo-Saxon", "1914-18") stays;
2. of the word with the hyphen and the word without, the more frequent one is taken;
3. where neither is known, a hyphen that stands for a part left out ("two- and threefold") ends no line, and is left
   as it is; another stays if there is one more in the word ("mother-in-law"), if other words begin with its first half
   and a hyphen ("self-"), or if both halves are words of three letters and more that stand alone elsewhere; else it
   goes.

The line is broken before the word instead, as it would have been had no word been broken, for what looks at lengths.
"""

from collections import Counter
from collections.abc import Mapping

from lmworks.corpus.modifiers.text_lines import HYPHENS
from lmworks.corpus.patterns import read_patterns
from lmworks.records import Edit

_LONGEST = 48  # characters that are looked back for the first half of a word
_KNOWN = 2  # times that a half stands alone, for a word, or before another hyphen

PATTERNS = read_patterns(__file__)


def repair_hyphenation(text: str) -> list[Edit]:
    """Join words broken at ends of lines, and of pages that end with a form feed. Rule: `line.hyphen`."""
    breaks = [(match, _left(text, match.start())) for match in PATTERNS["break"].finditer(text)]
    if not breaks:
        return []
    counts = Counter(map(str.casefold, PATTERNS["word"].findall(text)))
    for match, left in breaks:  # halves are no words
        counts[left.casefold()] -= 1
        if half := PATTERNS["word"].match(text, match.end()):
            counts[half[0].replace("\u00ad", "").casefold()] -= 1
    counts = +counts
    firsts = Counter[str]()  # what stands before hyphens
    for word, count in counts.items():
        if "-" in word:
            firsts[word.partition("-")[0]] += count
    edits: list[Edit] = []
    for match, left in breaks:
        right = PATTERNS["right"].match(text, match.end())
        printed = match["hyphen"].strip("\u00ad")
        if right is None:
            continue
        keeps = _keeps_hyphen(left, right[0].replace("\u00ad", ""), printed, counts, firsts)
        if keeps is None:
            continue
        start = match.start()
        before = PATTERNS["before"].search(text, max(0, start - _LONGEST), start)
        if before and text[before.start() - 1] not in HYPHENS:
            edits.append(Edit(*before.span("space"), match["gap"].replace("\u00ad", ""), "line.hyphen"))
        if keeps and printed == match["hyphen"]:
            edits.append(Edit(*match.span("gap"), "", "line.hyphen"))
        else:
            edits.append(Edit(*match.span(), printed if keeps else "", "line.hyphen"))
    return edits


def repair_soft_hyphens(text: str) -> list[Edit]:
    """Remove those that are left. Rule: `character.soft_hyphen`."""
    return [Edit(*match.span(), "", "character.soft_hyphen") for match in PATTERNS["soft_hyphens"].finditer(text)]


def unbroken_counts(text: str) -> Counter[str]:
    """Count the words of a text that may be printed in lines, casefolded: a hyphen parts two words, and one that is
    broken at the end of a line does not count, since its halves are none."""
    marked = PATTERNS["break"].sub("\0", text.replace("\0", " ")).replace("\u00ad", "")
    counts: Counter[str] = Counter()
    for word, count in Counter(PATTERNS["unbroken"].findall(marked)).items():
        if "\0" not in word:
            counts[word.casefold()] += count
    return counts


def _left(text: str, end: int) -> str:
    match = PATTERNS["left"].search(text, max(0, end - _LONGEST), end)
    return match[0].replace("\u00ad", "") if match else ""


def _keeps_hyphen(
    left: str, right: str, printed: str, counts: Mapping[str, int], firsts: Mapping[str, int]
) -> bool | None:
    """`printed`: the hyphen, "" for a soft one; None where the line does not end within a word."""
    if printed in ("", "\u00ac"):
        return False
    if not left[-1:].isalpha() or not right[0].isalpha() or (right[0].isupper() and not left.isupper()):
        return True
    left, right = left.casefold(), right.casefold()
    first = right.partition("-")[0]
    joined = counts.get(left + right) or counts.get(left + first, 0)
    hyphenated = counts.get(f"{left}-{right}") or counts.get(f"{left}-{first}", 0)
    if joined or hyphenated:
        return hyphenated > joined
    suspended = PATTERNS["suspended"].match(right)
    if suspended and (suspended["sure"] or counts.get(left)):  # else "workm-en" in a text without "workmen"
        return None
    if "-" in left or min(len(left), len(first)) < 3:
        return "-" in left
    return firsts.get(left, 0) >= _KNOWN or min(counts.get(left, 0), counts.get(first, 0)) >= _KNOWN
