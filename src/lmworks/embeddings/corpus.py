"""A text as ids of words on disk, and the vocabulary they belong to: memory follows the vocabulary, not the text.

Texts stream by once. Every word gets an id when it is first seen, and the ids are written to a temporary file, four
bytes a word, which is then mapped: whatever goes over the text again, such as the epochs of training, reads that file.
It lies in the folder of temporary files (`TMPDIR`) and vanishes with the process.
"""

import re
import tempfile
import unicodedata
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count

import numpy as np

from lmworks.embeddings.config import VocabularyConfig
from lmworks.progress import Report, no_report
from lmworks.tokenizer.combining_marks import combining_marks

END = -1  # behind each sentence
BLOCK = 1 << 20  # ids that are worked on at once
_RARE = -2
LONGEST = 1000  # words of a sentence; a longer one is cut, as the program of word2vec does

_WORD = re.compile(r"\w+(?:'\w+)*")
_END = re.compile(r"""[.!?…]+["'”’»)\]]*\s+|[。！？]|\n\s*\n""")


# ---------------------------------------------------------------------------------------------------------------------
# Texts to sentences of words


def sentences_of(texts: Iterable[str | Sequence[str]], lowercase: bool = True) -> Iterator[list[str]]:
    """The sentences of texts, each a list of at least one word; a text that is a list of words is a sentence already.

    Texts that are strings are brought into the normal form NFC and, with `lowercase`, into small letters. ValueError
    for a single string in place of several texts.
    """
    if isinstance(texts, str):
        raise ValueError("texts are several: give a list of strings, or [text] for a single one")
    for text in texts:
        if isinstance(text, str):
            for passage in _END.split(text):
                yield from _cut(words_of(passage, lowercase))
        else:
            yield from _cut(list(text))


def words_of(text: str, lowercase: bool = True) -> list[str]:
    """The words of one text, in order, wherever its sentences end."""
    text = unicodedata.normalize("NFC", text.lower() if lowercase else text)
    text = text.replace("_", " ").replace("’", "'")
    word = _WORD if text.isascii() or not _marks().search(text) else _word_with_marks()
    return word.findall(text)


def _cut(words: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(words), LONGEST):
        yield words[start : start + LONGEST]


@cache
def _marks() -> re.Pattern[str]:
    return re.compile(f"[{combining_marks()}]")


@cache
def _word_with_marks() -> re.Pattern[str]:
    """Vowel signs and accents belong to a word: Python's \\w has none of them. Fourteen times as slow as `_WORD`."""
    character = rf"[\w{combining_marks()}]"
    return re.compile(rf"{character}+(?:'{character}+)*")


# ---------------------------------------------------------------------------------------------------------------------
# Sentences to ids on disk


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """words   the vocabulary, the most frequent first, equally frequent ones as they first occur
    counts  (words,) int64: how often each occurs
    ids     (n,) int32: the text, with `END` behind each sentence; words without a vector are not in it
    total   words of the text, those without a vector among them
    """

    words: tuple[str, ...]
    counts: np.ndarray
    ids: np.ndarray
    total: int


def training_corpus(
    texts: Iterable[str | Sequence[str]], config: VocabularyConfig, progress: Report = no_report
) -> Corpus:
    """The corpus of a training; ValueError when fewer than two different words are frequent enough."""
    corpus = read_corpus(texts, config, progress)
    if len(corpus.words) < 2:
        raise ValueError(
            f"only {len(corpus.words)} different words occur {config.min_count:,} times in the text of "
            f"{corpus.total:,} words: give more text, or lower min_count"
        )
    return corpus


def read_corpus(texts: Iterable[str | Sequence[str]], config: VocabularyConfig, progress: Report = no_report) -> Corpus:
    """Texts, or sentences as lists of words, as a corpus, which may have no word at all."""
    names: defaultdict[str, int] = defaultdict(count().__next__)
    ids = on_disk(_spelled(sentences_of(texts, config.lowercase), names, progress), np.int32)
    words = list(names)
    del names
    for threshold in config.phrases:
        pairs, _ = scored_pairs(blocks(ids), _count(ids, len(words)), threshold, config.min_count)
        ids = on_disk((merged(block, pairs, len(words)) for block in blocks(ids)), np.int32)
        words += [f"{words[left]}_{words[right]}" for left, right in pairs.tolist()]
    return _frequent(words, ids, config.min_count, config.max_words)


def _spelled(
    sentences: Iterable[Sequence[str]], names: defaultdict[str, int], progress: Report
) -> Iterator[np.ndarray]:
    buffer = array("i")
    done = 0
    for sentence in sentences:
        buffer.extend(map(names.__getitem__, sentence))
        buffer.append(END)
        if len(buffer) >= BLOCK:
            yield np.frombuffer(buffer, np.int32)
            done += len(buffer)
            progress(done, None, "words read")
            buffer = array("i")
    if buffer:
        yield np.frombuffer(buffer, np.int32)


def _frequent(words: list[str], ids: np.ndarray, min_count: int, max_words: int) -> Corpus:
    counts = _count(ids, len(words))
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] >= min_count][: max_words or None]
    new = np.full(len(words) + 1, _RARE, np.int32)
    new[-1] = END  # which the id -1 finds
    new[order] = np.arange(len(order), dtype=np.int32)
    renamed = on_disk((row[row != _RARE] for row in (new[block] for block in blocks(ids))), np.int32)
    return Corpus(tuple(words[word] for word in order.tolist()), counts[order], renamed, int(counts.sum()))


def _count(ids: np.ndarray, words: int) -> np.ndarray:
    counts = np.zeros(words + 1, np.int64)
    for block in blocks(ids):
        counts += np.bincount(block + 1, minlength=words + 1)
    return counts[1:]


def blocks(ids: np.ndarray, size: int = BLOCK) -> Iterator[np.ndarray]:
    """The ids in pieces of whole sentences, of about `size`."""
    for start, stop in cuts(ids, size):
        yield np.asarray(ids[start:stop])


def cuts(ids: np.ndarray, size: int) -> Iterator[tuple[int, int]]:
    """The beginning and the end of each piece of `blocks`; each but the last has at least `size` ids."""
    start = 0
    while start < len(ids):
        stop = start + size
        while stop < len(ids) and ids[stop - 1] != END:
            stop += 1
        stop = min(stop, len(ids))
        yield start, stop
        start = stop


def on_disk(arrays: Iterable[np.ndarray], dtype: np.dtype | type) -> np.ndarray:
    """The arrays one after the other, mapped from a temporary file that nothing else sees."""
    with tempfile.TemporaryFile(prefix="lmworks-vectors-") as file:
        for values in arrays:
            values.astype(dtype, copy=False).tofile(file)
        file.flush()
        return np.memmap(file, dtype, mode="r+") if file.tell() else np.empty(0, dtype)


# ---------------------------------------------------------------------------------------------------------------------
# Phrases: two words that are neighbours far more often than by chance become one (Mikolov et al. 2013b, section 4).
#
# The score of a pair is equation 6 times the number of words in the text, as in the program of that paper,
#
#     score(a, b) = (count(a b) - discount) * words / (count(a) * count(b))
#
# which is how many times as often as by chance a is followed by b, with the discount against pairs of rare words. A
# pass joins pairs from left to right, each word at most once; a second pass makes longer phrases of those.


def scored_pairs(
    blocks: Iterable[np.ndarray], counts: np.ndarray, threshold: float, discount: int
) -> tuple[np.ndarray, np.ndarray]:
    """(phrases, 2) int32 and (phrases,) float64: pairs that score above the threshold, sorted, and their scores.

    blocks  ids of whole sentences, a negative one behind each
    counts  (words,) int64: how often each word occurs

    Memory follows the different pairs, not the length of the text.
    """
    from scipy.sparse import coo_array, csr_array

    pairs = csr_array((len(counts), len(counts)), dtype=np.int64)
    for ids in blocks:
        left, right = ids[:-1], ids[1:]
        inside = (left >= 0) & (right >= 0)
        ones = np.ones(np.count_nonzero(inside), np.int64)
        pairs += coo_array((ones, (left[inside], right[inside])), shape=pairs.shape).tocsr()
    pairs.sort_indices()
    different = pairs.tocoo()
    left, right = different.coords
    scores = (different.data - discount) * (counts.sum() / (counts[left].astype(np.float64) * counts[right]))
    chosen = scores > threshold
    return np.stack([left, right], axis=1)[chosen].astype(np.int32), scores[chosen]


def merged(ids: np.ndarray, pairs: np.ndarray, first: int) -> np.ndarray:
    """Ids of whole sentences with each pair replaced by one id, `first` plus its row.

    Where pairs overlap, as in a run of them, every other one is taken, from the left.
    """
    if not len(pairs) or len(ids) < 2:
        return ids
    width = int(max(ids.max(), pairs.max())) + 2
    keys_of_pairs = pairs[:, 0].astype(np.int64) * width + pairs[:, 1]  # sorted, as the pairs are
    keys = ids[:-1].astype(np.int64) * width + ids[1:]
    pair_row = np.minimum(np.searchsorted(keys_of_pairs, keys), len(keys_of_pairs) - 1)
    is_pair = (keys_of_pairs[pair_row] == keys) & (ids[:-1] >= 0) & (ids[1:] >= 0)
    number = np.arange(len(keys))
    run_start = np.maximum.accumulate(np.where(is_pair & ~np.append(False, is_pair[:-1]), number, 0))
    taken = is_pair & ((number - run_start) % 2 == 0)
    result = ids.copy()
    result[:-1][taken] = first + pair_row[taken]
    return result[np.append(True, ~taken)]
