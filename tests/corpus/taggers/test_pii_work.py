"""Work grows with the length of a text, whatever stands in it: characters that patterns are given are counted."""

import re
import sys

import pytest
from pii_texts import PIECES

from lmworks.corpus.taggers.pii import addresses, keys, numbers, phone, scan

MODULES = (addresses, keys, numbers, phone, scan)
SMALLEST = 4096  # characters
SLACK = 50_000  # of the differences at the ends of a text


class Counting:
    """A pattern that adds up how many characters it is given to look at."""

    def __init__(self, pattern: re.Pattern[str], counts: list[int]) -> None:
        self._pattern, self._counts = pattern, counts

    def match(self, text: str, position: int = 0, end: int = sys.maxsize) -> re.Match[str] | None:
        """Where it matches, it has looked no further; where it does not, perhaps as far as it might."""
        found = self._pattern.match(text, position, end)
        self._counts.append((found.end() if found else min(end, len(text))) - position + 1)
        return found

    def __getattr__(self, name: str):
        method = getattr(self._pattern, name)

        def counted(text, position=0, end=sys.maxsize):
            self._counts.append(max(0, min(end, len(text)) - position) + 1)
            return method(text, position, end)

        return counted

    def sub(self, replacement: str, text: str) -> str:
        self._counts.append(len(text) + 1)
        return self._pattern.sub(replacement, text)


@pytest.fixture
def work(monkeypatch):
    """A function of a text: how many characters were looked at, by all patterns of all families."""
    counts: list[int] = []
    for module in MODULES:
        for name, value in list(vars(module).items()):
            if isinstance(value, re.Pattern):
                monkeypatch.setattr(module, name, Counting(value, counts))

    def of(text: str) -> int:
        counts.clear()
        scan.find_personal_data(text, 0.0)
        return sum(counts)

    return of


REPEATED = (
    "1", "1 ", "1-", "1.", "12 ", "+1 ", "(1) ", "1, ", "a@", "@a.", "a@a.aa", "[at]", "(at)a.b", "http://", "://a",
    "www.a.", "a:", ":a", "ab:", "a=", "password=", "token: aA1!aA1! ", "_a1", "-a", "-0a", "-aa-aa-aa", "eyJ.",
    ".eyJa", "eyJaaaaaa.eyJaaaa.", "-----BEGIN PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----\nAAAAAAAAAAAAAAAA",
    "A: ", "AKIA", "AAAA", "sk-A1", "SG.", "DE89", "DE89 ", "AB12 ", ")", "((", "<", "\n", "é", "xoxb-1a", "1:AA",
    "0.0.0.0.", "::1",
)  # fmt: skip


@pytest.mark.parametrize("piece", sorted({*REPEATED, *(piece for piece in PIECES if piece.strip())}))
def test_twice_the_text_is_twice_the_work(work, piece):
    amounts = [work((piece * (length // len(piece) + 1))[:length]) for length in (SMALLEST, 2 * SMALLEST, 4 * SMALLEST)]
    first, second = amounts[1] - amounts[0], amounts[2] - amounts[1]
    assert second <= 2.3 * first + SLACK  # a square would be 4 times
