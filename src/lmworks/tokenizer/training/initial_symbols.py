"""Words as the symbols that merging begins with: bytes, characters, or characters that know whether they begin a word.

Spelt words lie one behind the other in one array, with a -1 before, between and behind them, which no merge crosses. A
character that is too rare for the alphabet is a -1 as well: it will be written as its bytes, or as the unknown token.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import numpy as np

from lmworks.tokenizer.byte_level import byte_letters
from lmworks.tokenizer.training.word_counts import WordCounts

CONTINUING = "##"  # before a WordPiece token that does not begin a word
BOUNDARY = -1
SHOWN = 10  # characters without a token that are named


@dataclass(frozen=True, slots=True)
class Uncovered:
    """Characters that the alphabet has no place for.

    characters   how many different ones
    occurrences  of them in the texts
    share        of all characters of the texts, 0 to 1
    frequent     the most frequent ones, `SHOWN` at most, and how often the texts have each
    becomes      what a text with one of them gets: a sentence
    """

    characters: int = 0
    occurrences: int = 0
    share: float = 0.0
    frequent: tuple[tuple[str, int], ...] = ()
    becomes: str = ""

    @property
    def warning(self) -> str:
        """A sentence for the user, with the remedy; empty where every character has a token."""
        if not self.characters:
            return ""
        shown = (c if c.isprintable() and not c.isspace() else f"U+{ord(c):04X}" for c, _ in self.frequent)
        named = ", ".join(f"{c} ({times:,})" for c, (_, times) in zip(shown, self.frequent, strict=True))
        rest = self.characters - len(self.frequent)
        several = "character has" if self.characters == 1 else "different characters have"
        return (
            f"{self.characters:,} {several} no token, {100 * self.share:.2g} % of the texts: {named}"
            f"{f' and {rest:,} more' if rest else ''}. {self.becomes} Raise coverage (1 keeps every character) or give "
            "more text."
        )


@dataclass(frozen=True, slots=True, eq=False)
class Spelling:
    """Words in symbols.

    alphabet  the token of each symbol, in the order of the symbols
    cells     (cells,) int32: symbols, and `BOUNDARY` around every word
    starts    (runs,) uint32: the cells from which on words occur as often as `weights` says, in ascending order
    weights   (runs,) int64
    uncovered characters that are no symbols
    """

    alphabet: tuple[str, ...]
    cells: np.ndarray
    starts: np.ndarray
    weights: np.ndarray
    uncovered: Uncovered = field(default_factory=Uncovered)

    def words(self) -> list[tuple[list[int], int]]:
        """The words as lists of symbols, cut at the boundaries, and how often each occurs."""
        spelt: list[tuple[list[int], int]] = []
        edges = np.flatnonzero(self.cells == BOUNDARY)
        run = np.searchsorted(self.starts, edges[:-1] + 1, side="right") - 1
        for start, end, weight in zip(edges[:-1] + 1, edges[1:], self.weights[run], strict=True):
            if end > start:
                spelt.append((self.cells[start:end].tolist(), int(weight)))
        return spelt


def spell_bytes(words: WordCounts) -> Spelling:
    """The symbols are the 256 bytes, in the order of the letters that GPT-2 writes them with."""
    letters = byte_letters()
    alphabet = tuple(sorted(letters))
    symbol_of = np.empty(256, np.int32)
    symbol_of[[letters[letter] for letter in alphabet]] = np.arange(256)
    return lay_out(alphabet, symbol_of[words.text], words.lengths, words.counts)


def spell_characters(words: WordCounts, coverage: float = 1.0, continuing: str = "", becomes: str = "") -> Spelling:
    """The symbols are the characters that make up a share of `coverage` of all characters, by their code points.

    `continuing` goes before characters that do not begin a word, which then are symbols of their own, after the others.
    `becomes` says what a text with another character gets (`Uncovered`).
    """
    points = np.frombuffer(words.text.tobytes().decode().encode("utf-32-le"), np.uint32)
    begins = (words.text & 0xC0) != 0x80
    ends = np.cumsum(begins)[words.ends - 1] if len(words) else words.ends
    lengths = np.diff(ends, prepend=0)
    covered, uncovered = _covering(points, np.repeat(words.counts, lengths), coverage)
    indices = np.searchsorted(covered, points).clip(max=max(len(covered) - 1, 0))
    symbols = np.where(covered[indices] == points, indices, BOUNDARY).astype(np.int32) if len(covered) else indices
    alphabet = tuple(map(chr, covered.tolist()))
    if continuing:
        inside = symbols != BOUNDARY
        inside[ends - lengths] = False
        followers = np.unique(symbols[inside])
        symbols[inside] = len(alphabet) + np.searchsorted(followers, symbols[inside])
        alphabet += tuple(continuing + alphabet[symbol] for symbol in followers.tolist())
    spelling = lay_out(alphabet, symbols, lengths, words.counts)
    return replace(spelling, uncovered=replace(uncovered, becomes=becomes))


def _covering(points: np.ndarray, weights: np.ndarray, coverage: float) -> tuple[np.ndarray, Uncovered]:
    """The most frequent code points that together have this share, ascending, and what of the others there is to say.
    Of equally frequent ones the lower are kept."""
    different, index = np.unique(points, return_inverse=True)
    # Exact up to 2^53 characters.
    frequency = np.bincount(index, weights=weights, minlength=len(different)).astype(np.int64)
    order = np.lexsort((different, -frequency))
    needed = coverage * frequency.sum()
    before = np.cumsum(frequency[order]) - frequency[order]
    covered, uncovered = order[before < needed], order[before >= needed]
    occurrences = int(frequency[uncovered].sum())
    named = uncovered[:SHOWN]
    frequent = tuple(zip(map(chr, different[named].tolist()), frequency[named].tolist(), strict=True))
    share = occurrences / int(frequency.sum()) if occurrences else 0.0
    return np.sort(different[covered]), Uncovered(len(uncovered), occurrences, share, frequent)


def lay_out(alphabet: tuple[str, ...], symbols: np.ndarray, lengths: np.ndarray, counts: np.ndarray) -> Spelling:
    """The spelling of words whose `symbols` lie one behind the other, `lengths` of them each. Words of the same of
    `counts` should be neighbours. MemoryError for more than 2^32 cells."""
    size = len(symbols) + len(lengths) + 1
    if size >= 2**32:
        raise MemoryError(f"{size:,} symbols in different words are more than 2^32: raise min_word_count")
    boundaries = np.cumsum(lengths + 1)
    inside = np.ones(size, bool)
    inside[0] = False
    inside[boundaries] = False
    cells = np.full(size, BOUNDARY, np.int32)
    cells[inside] = symbols
    changes = np.flatnonzero(np.diff(counts, prepend=0))  # words come in the order of their counts
    starts = (boundaries - lengths)[changes].astype(np.uint32)
    return Spelling(alphabet, cells, starts, counts[changes].astype(np.int64))


def room_beside(before: Collection[str], spelling: Spelling, vocabulary_size: int) -> int:
    """The number of tokens that are left next to those `before`; ValueError where that is less than the alphabet."""
    room = vocabulary_size - len(before)
    if room < len(spelling.alphabet):
        raise ValueError(
            f"vocabulary_size is {vocabulary_size:,}, but {len(spelling.alphabet):,} characters are to have tokens of "
            f"their own, next to {len(before):,} others: raise it, or lower coverage"
        )
    return room
