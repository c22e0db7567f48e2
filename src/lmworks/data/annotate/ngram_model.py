"""An n-gram language model of words or bytes that learns from the user's good texts, for filters by perplexity.

It does what KenLM does for CCNet (Wenzek et al. 2020, section 3.3) with tables of numpy: no compiler, no download.
Perplexities of words and of bytes are not comparable, nor are those of models with other vocabularies.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmworks.data.annotate.features import FEATURES
from lmworks.data.annotate.model_file import ModelFileError, read_arrays, writing_new
from lmworks.data.annotate.ngram_tables import Grams, Tables, count_grams, smooth, text_grams
from lmworks.data.annotate.words import tokens

_UNKNOWN, _FIRST_WORD = 1, 2  # numbers of symbols; 0 is the beginning of a text
_BATCH = 1 << 20  # symbols that are counted or scored at a time
_BYTE_BITS, _BYTE_SYMBOLS = 9, 257
_DIGITS = re.compile("[1-9]")


@dataclass(frozen=True, slots=True, eq=False)
class NgramModel:
    """A model of words, or of bytes where `words` is None.

    tables   Probabilities of symbols.
    words    Number of each word, from 2; a token that is not among them is unknown.
    unknown  How many different tokens were left out of the vocabulary, plus one for all that were never seen: an
             unknown token is one of them, each as likely as the others. So rare words are not cheap because there are
             many of them.
    """

    tables: Tables
    words: dict[str, int] | None
    unknown: int

    def score(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Nats and symbols (tokens or bytes) of each text, whatever others it comes with."""
        found: list[tuple[float, int]] = []
        for batch in _batches(self._symbols(text) for text in texts):
            lengths = np.array([len(each) for each in batch], np.int64)
            nats = -self.tables.log_probabilities(batch)
            if self.words is not None:
                nats[np.concatenate(batch) == _UNKNOWN] += np.log(self.unknown)
            sums = np.bincount(np.repeat(np.arange(len(batch)), lengths), nats, len(batch))
            found += zip(np.maximum(sums, 0.0).tolist(), lengths.tolist(), strict=True)
        return found

    def _symbols(self, text: str) -> NDArray[np.int64]:
        return _byte_symbols(text) if self.words is None else _word_symbols(model_tokens(text), self.words)

    def save(self, path: Path) -> None:
        """One new .npz file of arrays alone; equal models give equal files. FileExistsError rather than overwrite."""
        arrays = {
            "description": np.array([FEATURES, self.tables.order, self.tables.bits, self.unknown], np.int64),
            "unigrams": self.tables.unigrams,
        }
        for name in ("grams", "shares", "weights"):
            arrays |= {f"{name}{number}": each for number, each in enumerate(getattr(self.tables, name))}
        if self.words is not None:
            arrays["words"] = np.frombuffer("\n".join(self.words).encode("utf-8", "surrogatepass"), np.uint8)
        with writing_new(path) as stream:
            np.savez(stream, **arrays)


def load_ngram_model(path: Path) -> NgramModel:
    """What `save` wrote. FileNotFoundError where there is no such file; ModelFileError (a ValueError) for another one,
    and for a model whose tokens are not those of this program."""
    arrays = read_arrays(path, ("description", "unigrams", "grams0"), "n-gram model")
    features, order, bits, unknown = arrays["description"].tolist()
    if features != FEATURES:
        raise ModelFileError(
            f"the model in {path} is of tokens of version {features}, this program has {FEATURES}: train it again"
        )
    grams, shares, weights = (
        tuple(arrays[f"{name}{number}"] for number in range(order - 1)) for name in ("grams", "shares", "weights")
    )
    words = None
    if "words" in arrays:
        names = arrays["words"].tobytes().decode("utf-8", "surrogatepass").split("\n")
        words = {name: number for number, name in enumerate(names, start=_FIRST_WORD)}
    return NgramModel(Tables(order, bits, arrays["unigrams"], grams, shares, weights), words, unknown)


def model_tokens(text: str) -> list[str]:
    """The tokens of a text as a model sees them: casefolded, every digit a 0 (as CCNet has it)."""
    found = tokens(text)
    return _DIGITS.sub("0", "\n".join(found).casefold()).split("\n") if found else []


# ---------------------------------------------------------------------------------------------------------------------
# Training


def train_word_model(
    texts: Iterable[str], *, order: int = 3, vocabulary: int = 500_000, min_count: int = 1, least: int = 1
) -> NgramModel:
    """Learn from texts, which are gone through twice.

    order       Tokens of the longest n-grams.
    vocabulary  The most frequent tokens that are words of the model; of equally frequent ones, the first by code point.
    min_count   Tokens that occur less often are not.
    least       Longest n-grams that occur less often are forgotten: 2 makes a model of much text several times smaller.

    ValueError for an iterator, which can be gone through once, for texts without tokens, and where n-grams of so many
    words do not fit into 64 bits.
    """
    if isinstance(texts, Iterator):
        raise ValueError("texts are gone through twice: give a list, or what can be iterated over again")
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(model_tokens(text))
    frequent = sorted(
        (word for word, count in counts.items() if count >= min_count), key=lambda word: (-counts[word], word)
    )[:vocabulary]
    if not frequent:
        raise ValueError(f"there is nothing to learn from: no token occurs {min_count} times or more")
    words = {word: number for number, word in enumerate(frequent, start=_FIRST_WORD)}
    symbols = len(words) + _FIRST_WORD
    bits = (symbols - 1).bit_length()
    if order * bits > 64:
        most = (1 << (64 // order)) - _FIRST_WORD
        raise ValueError(f"n-grams of {order} of {len(words):,} words are too many: set vocabulary to {most:,} at most")
    numbered = (_word_symbols(model_tokens(text), words) for text in texts)
    grams, numbers = _count(numbered, order, bits)
    return NgramModel(smooth(grams, numbers, order, bits, symbols, least), words, len(counts) - len(words) + 1)


def train_byte_model(texts: Iterable[str], *, order: int = 5, least: int = 1) -> NgramModel:
    """Learn from the bytes of texts in UTF-8: smaller than a model of words, for any script, and slower to ask.

    order  Bytes of the longest n-grams, 7 at most.
    least  Longest n-grams that occur less often are forgotten.
    """
    if not 2 <= order <= 64 // _BYTE_BITS:
        raise ValueError(f"order must be between 2 and {64 // _BYTE_BITS} bytes, got {order}")
    grams, numbers = _count(map(_byte_symbols, texts), order, _BYTE_BITS)
    return NgramModel(smooth(grams, numbers, order, _BYTE_BITS, _BYTE_SYMBOLS, least), None, 1)


def _count(texts: Iterable[NDArray[np.int64]], order: int, bits: int) -> tuple[Grams, NDArray[np.int64]]:
    def batches() -> Iterator[Grams]:
        for batch in _batches(texts):
            keys, is_start = text_grams(batch, order, bits)
            yield keys[~is_start]

    return count_grams(batches())


def _word_symbols(found: Sequence[str], words: dict[str, int]) -> NDArray[np.int64]:
    return np.fromiter(map(words.get, found, repeat(_UNKNOWN)), np.int64, len(found))


def _byte_symbols(text: str) -> NDArray[np.int64]:
    return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64) + 1


def _batches(texts: Iterable[NDArray[np.int64]]) -> Iterator[list[NDArray[np.int64]]]:
    batch: list[NDArray[np.int64]] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
