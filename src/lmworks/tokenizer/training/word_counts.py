"""Counting the words of texts that stream by: on all cores, in memory that follows the different words, or on disk.

A text is seen once and kept nowhere. What is kept is a table of its different words, of which a language has few beside
the words of its texts. Where even that grows beyond a limit, it is written to disk in parts, and added up part by part
at the end.
"""

import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from lmworks.progress import Report, no_report
from lmworks.tokenizer.library import cores
from lmworks.tokenizer.pre_tokenizer import WordRule
from lmworks.tokenizer.training.word_table import CompiledTable, WordCounts, WordTable, new_table

_BATCH = 4 << 20  # bytes that one call counts: long enough that its cost does not show
_PARTS = 32  # into which words are divided on disk: adding up takes a 32nd of the memory


def count_words(
    texts: Iterable[str],
    rule: WordRule,
    *,
    memory_bytes: int = 4 << 30,
    min_word_count: int = 1,
    threads: int | None = None,
    progress: Report = no_report,
) -> WordCounts:
    """The different words of `texts`, cut by `rule`, that occur at least `min_word_count` times.

    `memory_bytes` is what the tables may take before they go to a temporary folder; `threads` is one a core by default.
    The result depends on none of this. ValueError for a text that cannot be written as UTF-8.
    """
    if isinstance(texts, str):
        raise ValueError("texts are several: give a list of strings, or [text] for a single one")
    tables = [new_table(rule) for _ in range(threads or cores())]
    if not isinstance(tables[0], CompiledTable):
        tables = tables[:1]  # Python's lock lets one count at a time
    with tempfile.TemporaryDirectory(prefix="lmworks-words-") as folder, ThreadPoolExecutor(len(tables)) as pool:
        spilled, done = 0, 0
        running: list[Future[None] | None] = [None] * len(tables)
        for number, batch in enumerate(_batches(texts)):
            turn = number % len(tables)
            _wait(running[turn])
            if sum(table.memory_bytes() for table in tables) > memory_bytes:
                for other in running:
                    _wait(other)
                for i, table in enumerate(tables):
                    _spill(table.read(), Path(folder), spilled + i)
                    tables[i] = new_table(rule)
                spilled += len(tables)
            running[turn] = pool.submit(tables[turn].count, batch)
            done += sum(map(len, batch))
            progress(done // 1_000_000, None, "MB read")
        for other in running:
            _wait(other)
        if spilled:
            for i, table in enumerate(tables):
                _spill(table.read(), Path(folder), spilled + i)
            del tables
            return _add_up(Path(folder), rule, min_word_count)
        first, *others = tables
        for table in others:
            first.add(table.read())
        return _frequent(first.read(), min_word_count)


def _batches(texts: Iterable[str]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for number, text in enumerate(texts, start=1):
        try:
            batch.append(text.encode())
        except UnicodeEncodeError as error:
            raise ValueError(
                f"text {number} holds half of a surrogate pair at character {error.start}: read it with "
                "errors='replace', or repair it"
            ) from None
        size += len(batch[-1])
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _wait(future: Future[None] | None) -> None:
    if future is not None:
        future.result()


def _frequent(words: WordCounts, min_word_count: int) -> WordCounts:
    return words if min_word_count <= 1 else words.select(words.counts >= min_word_count)


# ---------------------------------------------------------------------------------------------------------------------
# On disk


def _spill(words: WordCounts, folder: Path, run: int) -> None:
    """Writes one file a part; a word always goes to the same part, whichever run it is in."""
    part = _part_of(words)
    for number in range(_PARTS):
        chosen = words.select(part == number)
        np.savez(folder / f"{run:06}.{number}.npz", text=chosen.text, ends=chosen.ends, counts=chosen.counts)


def _part_of(words: WordCounts) -> np.ndarray:
    """(words,) the part of each word, from its length, its first three bytes and its last one."""
    last = words.ends - 1
    lengths = words.ends - words.starts
    hashes = lengths.astype(np.uint32)
    for place in (words.starts, np.minimum(words.starts + 1, last), np.minimum(words.starts + 2, last), last):
        hashes = (hashes ^ words.text[place]) * np.uint32(0x9E3779B1)
        hashes ^= hashes >> np.uint32(15)
    return hashes % _PARTS


def _add_up(folder: Path, rule: WordRule, min_word_count: int) -> WordCounts:
    whole: WordTable = new_table(rule)
    for number in range(_PARTS):
        table = new_table(rule)
        for path in sorted(folder.glob(f"*.{number}.npz")):
            with np.load(path) as arrays:
                table.add(WordCounts(arrays["text"], arrays["ends"], arrays["counts"]))
            path.unlink()
        whole.add(_frequent(table.read(), min_word_count))
    return whole.read()
