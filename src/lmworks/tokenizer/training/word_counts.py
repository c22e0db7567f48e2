"""Counting the words of texts that stream by: on all cores, in memory that follows the different words.

A text is seen once and kept nowhere. What is kept is a table of its different words, of which a language has few next
to the words of its texts.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from lmworks.compiled import cores
from lmworks.progress import Report, no_report
from lmworks.tokenizer import library
from lmworks.tokenizer.pre_tokenizer import WordRule, character_classes

_BATCH = 4 << 20  # bytes that one call counts: long enough that its cost does not show
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
    def lengths(self) -> np.ndarray:
        """(words,) int64, bytes."""
        return np.diff(self.ends, prepend=0)

    @property
    def total(self) -> int:
        """Words in all the texts."""
        return int(self.counts.sum())

    def select(self, chosen: np.ndarray) -> "WordCounts":
        """The words that a (words,) mask chooses."""
        text = self.text[np.repeat(chosen, self.lengths)]
        return WordCounts(text, np.cumsum(self.lengths[chosen]), self.counts[chosen])

    @classmethod
    def of(cls, counts: Counter[bytes] | dict[bytes, int]) -> "WordCounts":
        """From a dictionary."""
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        words = [word for word, _ in ordered]
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        numbers = np.fromiter((count for _, count in ordered), np.int64, len(words))
        return cls(np.frombuffer(b"".join(words), np.uint8), np.cumsum(lengths), numbers)


def count_words(
    texts: Iterable[str],
    rule: WordRule,
    *,
    min_word_count: int = 1,
    threads: int | None = None,
    progress: Report = no_report,
) -> WordCounts:
    """The different words of `texts`, cut by `rule`, that occur at least `min_word_count` times.

    `threads`, one a core by default, do not change the result. ValueError for a text that cannot be written as UTF-8.
    """
    if isinstance(texts, str):
        raise ValueError("texts are several: give a list of strings, or [text] for a single one")
    if library.load() is not None:
        tables = [CompiledTable(rule) for _ in range(threads or cores())]
    else:
        tables = [PythonTable(rule)]  # Python's lock lets one count at a time
    with ThreadPoolExecutor(len(tables)) as pool:
        done = 0
        counting: list[Future[None]] = [pool.submit(table.count, []) for table in tables]
        for number, batch in enumerate(library.batches(_encoded(texts), _BATCH)):
            counting[number % len(tables)].result()
            counting[number % len(tables)] = pool.submit(tables[number % len(tables)].count, batch)
            done += sum(map(len, batch))
            progress(done // 1_000_000, None, "MB read")
        for future in counting:
            future.result()
    first, *rest = tables
    for table in rest:
        first.add(table.read())
    words = first.read()
    return words if min_word_count <= 1 else words.select(words.counts >= min_word_count)


def _encoded(texts: Iterable[str]) -> Iterator[bytes]:
    for number, text in enumerate(texts, start=1):
        try:
            yield text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"text {number} holds half of a surrogate pair at character {error.start}: read it with "
                "errors='replace', or repair it"
            ) from None


# ---------------------------------------------------------------------------------------------------------------------
# Tables of words and how often each occurs


class CompiledTable:
    """In C++, without Python's lock: threads may count at once, each into a table of its own."""

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


class PythonTable:
    """In Python: the definition."""

    def __init__(self, rule: WordRule) -> None:
        self._rule, self._words = rule, Counter[bytes]()

    def count(self, texts: Sequence[bytes]) -> None:
        """Adds the words of texts in UTF-8; ValueError for a word of more than `LONGEST_WORD` bytes."""
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


def _too_long() -> ValueError:
    return ValueError(
        f"a word has more than {LONGEST_WORD:,} bytes: cut the texts into shorter ones, or choose a rule for words "
        "that cuts them"
    )
