"""Words that were broken at the end of a line, joined again; soft hyphens removed.

Whether a hyphen belongs to the word ("well-known") or to the line's end ("exam-ple") is decided by counts of words
that stand unbroken in the document, and in a corpus where one is given:

1. a soft hyphen goes; a hyphen before a capital or beside a digit ("Anglo-Saxon", "1914-18") stays;
2. of the word with the hyphen and the word without, the more frequent one is taken;
3. where neither is known, a hyphen that stands for a part left out ("two- and threefold") ends no line, and is left
   as it is; another stays if there is one more in the word ("mother-in-law"), if other words begin with its first half
   and a hyphen ("self-"), or if both halves are words of three letters and more that stand alone elsewhere; else it
   goes.

The line is broken before the word instead, as it would have been had no word been broken, for what looks at lengths.
"""

import re
from collections import Counter
from collections.abc import Mapping

from lmworks.corpus.modifiers.page_layout import HYPHENS, with_uncovered
from lmworks.records import Edit

_LONGEST = 48  # characters that are looked back for the first half of a word
_KNOWN = 2  # times that a half stands alone, for a word, or before another hyphen

_BREAK = re.compile(
    """(?<=[^\\W_])(?P<hyphen>\u00ad++|\u00ad*+[-\u2010\u00ac]\u00ad*+)
    (?P<gap>[ \\t]*+\\r?\\n[ \\t\u00ad]*+|[ \\t]*+\\r?\\n?\\s*?\\f\\s*+\u00ad*+)
    (?=[^\\W_])""",
    re.X,
)
_LEFT = re.compile("[^\\W_][\\w'’\u00ad-]*+\\Z")
_RIGHT = re.compile("[^\\W_]++(?:['’\u00ad-]++[^\\W_]++)*+")
_BEFORE = re.compile(r"(?<=\S)(?P<space>[ \t]++)\S*+\Z")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_UNBROKEN = re.compile("[^\\W_]+(?:['’\0][^\\W_]+)*")
_SOFT_HYPHENS = re.compile("\u00ad+")
_SUSPENDED = re.compile(r"(?:(?P<sure>and|und|oder|bzw)|or|to|bis|et|ou|y|e|o|i|en|of|och|og|eller)\b")


def repair_hyphenation(text: str, vocabulary: Mapping[str, int] | None = None) -> list[Edit]:
    """Join words broken at ends of lines, and of pages that end with a form feed; remove soft hyphens.

    Rules: `line.hyphen` and `character.soft_hyphen`.

    `vocabulary`: how often each word, casefolded, stands in a corpus; hyphens within words are part of them.
    """
    breaks = list(_BREAK.finditer(text))
    known = _Words(text, breaks, vocabulary or {}) if breaks else None
    edits: list[Edit] = []
    for match in breaks:
        right = _RIGHT.match(text, match.end())
        if known is None or right is None:
            continue
        printed = match["hyphen"].strip("\u00ad")
        keeps = known.keeps_hyphen(_left(text, match.start()), right[0], printed)
        if keeps is None:
            continue
        start = match.start()
        before = _BEFORE.search(text, max(0, start - _LONGEST), start)
        if before and text[before.start() - 1] not in HYPHENS:
            edits.append(Edit(*before.span("space"), match["gap"].replace("\u00ad", ""), "line.hyphen"))
        if keeps and printed == match["hyphen"]:
            edits.append(Edit(*match.span("gap"), "", "line.hyphen"))
        else:
            edits.append(Edit(*match.span(), printed if keeps else "", "line.hyphen"))
    soft = (Edit(*match.span(), "", "character.soft_hyphen") for match in _SOFT_HYPHENS.finditer(text))
    return with_uncovered(edits, soft)


def word_counts(text: str) -> Counter[str]:
    """How often each word stands in a text, casefolded; hyphens and apostrophes within words are part of them."""
    return Counter(map(str.casefold, _WORD.findall(text)))


def unbroken_counts(text: str) -> Counter[str]:
    """How often each word stands in a text that may be printed in lines, casefolded: a hyphen parts two words, and one
    that is broken at the end of a line does not count, since its halves are none."""
    marked = _BREAK.sub("\0", text.replace("\0", " ")).replace("\u00ad", "")
    counts: Counter[str] = Counter()
    for word, count in Counter(_UNBROKEN.findall(marked)).items():
        if "\0" not in word:
            counts[word.casefold()] += count
    return counts


def _left(text: str, end: int) -> str:
    match = _LEFT.search(text, max(0, end - _LONGEST), end)
    return match[0] if match else ""


def _plain(word: str) -> str:
    return word.replace("\u00ad", "").casefold()


class _Words:
    """What is known of words: in the corpus, and in the document where they are not broken."""

    def __init__(self, text: str, breaks: list[re.Match[str]], vocabulary: Mapping[str, int]) -> None:
        self._vocabulary = vocabulary
        self._own = word_counts(text)
        for match in breaks:
            self._own[_plain(_left(text, match.start()))] -= 1
            if right := _WORD.match(text, match.end()):
                self._own[_plain(right[0])] -= 1
        self._firsts: Counter[str] = Counter()
        for word, count in self._own.items():
            first, hyphen, _ = word.partition("-")
            if hyphen and count > 0:
                self._firsts[first] += count

    def count(self, word: str) -> int:
        return self._vocabulary.get(word, 0) + max(0, self._own.get(word, 0))

    def keeps_hyphen(self, left: str, right: str, printed: str) -> bool | None:
        """`printed`: the hyphen, "" for a soft one; None where the line does not end within a word."""
        if printed in ("", "\u00ac"):
            return False
        left, right = left.replace("\u00ad", ""), right.replace("\u00ad", "")
        if not left[-1:].isalpha() or not right[0].isalpha() or (right[0].isupper() and not left.isupper()):
            return True
        left, right = left.casefold(), right.casefold()
        first = right.partition("-")[0]
        joined = self.count(left + right) or self.count(left + first)
        hyphenated = self.count(f"{left}-{right}") or self.count(f"{left}-{first}")
        if joined or hyphenated:
            return hyphenated > joined
        suspended = _SUSPENDED.match(right)
        if suspended and (suspended["sure"] or self.count(left)):  # else "workm-en" in a text without "workmen"
            return None
        if "-" in left:
            return True
        if min(len(left), len(first)) < 3:
            return False
        return self._firsts[left] >= _KNOWN or min(self.count(left), self.count(first)) >= _KNOWN
