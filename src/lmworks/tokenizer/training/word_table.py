"""Tables of words and how often each occurs: the compiled one, and one in Python that counts the same."""

import ctypes
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from lmworks.tokenizer import library
from lmworks.tokenizer.pre_tokenizer import WordRule, character_classes

LONGEST_WORD = 2**32 - 1  # bytes: the compiled table keeps lengths in 32 bits


@dataclass(frozen=True, slots=True, eq=False)
class WordCounts:
    """Different words, the most frequent first, equally frequent ones in the order of their bytes.

    text    (bytes,) uint8: the words, one after the other
    ends    (words,) int64: where each ends in `text`
    counts  (words,) int64: how often each occurs
    """

    text: np.ndarray
    ends: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.ends)

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        text, start = self.text.tobytes(), 0
        for end, count in zip(self.ends.tolist(), self.counts.tolist(), strict=True):
            yield text[start:end], count
            start = end

    @property
    def starts(self) -> np.ndarray:
        """(words,) int64: where each begins in `text`."""
        return np.concatenate([[0], self.ends[:-1]]) if len(self) else self.ends

    @property
    def total(self) -> int:
        """Words in all the texts."""
        return int(self.counts.sum())

    def select(self, chosen: np.ndarray) -> "WordCounts":
        """The words that a (words,) mask chooses."""
        lengths = self.ends - self.starts
        return WordCounts(self.text[np.repeat(chosen, lengths)], np.cumsum(lengths[chosen]), self.counts[chosen])

    @classmethod
    def of(cls, counts: Counter[bytes] | dict[bytes, int]) -> "WordCounts":
        """From a dictionary."""
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        words = [word for word, _ in ordered]
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        numbers = np.fromiter((count for _, count in ordered), np.int64, len(words))
        return cls(np.frombuffer(b"".join(words), np.uint8), np.cumsum(lengths), numbers)


class WordTable(Protocol):
    def count(self, texts: Sequence[bytes]) -> None:
        """Adds the words of texts in UTF-8; the compiled table does so without Python's lock. ValueError for a word of
        more than `LONGEST_WORD` bytes."""
        ...

    def add(self, words: WordCounts) -> None: ...

    def read(self) -> WordCounts: ...

    def memory_bytes(self) -> int:
        """May be asked while another thread counts."""
        ...


def new_table(rule: WordRule) -> WordTable:
    return CompiledTable(rule) if library.load() is not None else PythonTable(rule)


class CompiledTable:
    """In C++. Threads may count at once, each into a table of its own."""

    def __init__(self, rule: WordRule) -> None:
        compiled = library.load()
        assert compiled is not None
        self._library, self._classes = compiled, character_classes()
        self._rule = (self._classes.ctypes.data, *rule.codes)
        self._table = compiled.lmworks_words_new()
        if not self._table:
            raise MemoryError("not enough memory to count words")

    def __del__(self) -> None:
        if getattr(self, "_table", None):
            self._library.lmworks_words_free(self._table)

    def count(self, texts: Sequence[bytes]) -> None:
        ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
        joined = b"".join(texts)
        result = self._library.lmworks_words_count(
            self._table, *self._rule, joined, ends.ctypes.data, len(texts), LONGEST_WORD
        )
        if result == -2:
            raise _too_long()
        library.check(result)

    def add(self, words: WordCounts) -> None:
        text, ends, counts = (np.ascontiguousarray(array) for array in (words.text, words.ends, words.counts))
        result = self._library.lmworks_words_add(
            self._table, text.ctypes.data, ends.ctypes.data, counts.ctypes.data, len(words)
        )
        library.check(result)

    def read(self) -> WordCounts:
        size = self._library.lmworks_words_size(self._table)
        text = np.empty(self._library.lmworks_words_text(self._table), np.uint8)
        ends, counts = np.empty(size, np.int64), np.empty(size, np.int64)
        result = self._library.lmworks_words_read(self._table, text.ctypes.data, ends.ctypes.data, counts.ctypes.data)
        library.check(result)
        return WordCounts(text, ends, counts)

    def memory_bytes(self) -> int:
        return self._library.lmworks_words_memory(self._table)


class PythonTable:
    """In Python: the definition."""

    def __init__(self, rule: WordRule) -> None:
        self._rule, self._words, self._bytes = rule, Counter[bytes](), 0

    def count(self, texts: Sequence[bytes]) -> None:
        for text in texts:
            words = [word.encode() for word in self._rule.cut(text.decode())]
            if max(map(len, words), default=0) > LONGEST_WORD:
                raise _too_long()
            self._words.update(words)

    def add(self, words: WordCounts) -> None:
        for word, count in words:
            self._words[word] += count

    def read(self) -> WordCounts:
        return WordCounts.of(self._words)

    def memory_bytes(self) -> int:
        return len(self._words) * 150  # of a dictionary's entry, a short bytes object and an int, about


def _too_long() -> ValueError:
    return ValueError(
        f"a word has more than {LONGEST_WORD:,} bytes: cut the texts into shorter ones, or choose a rule for words "
        "that cuts them"
    )


def cut_words(text: str, rule: WordRule) -> list[str]:
    """The words of a text by the compiled scanner, or by the library's rule where there is none."""
    compiled = library.load()
    if compiled is None:
        return rule.cut(text)
    data = text.encode()
    ends = np.empty(len(data), np.int64)
    number = compiled.lmworks_cut_words(
        character_classes().ctypes.data, *rule.codes, data, ctypes.c_int64(len(data)), ends.ctypes.data
    )
    starts = [0, *ends[:number].tolist()]
    return [data[start:end].decode() for start, end in pairwise(starts)]
