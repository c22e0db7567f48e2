"""Fertility and other measures of how well a vocabulary fits a text: counts by passage, ratios with intervals.

Passages (documents, or the lines of one file) are the unit of every interval, because the tokens of one passage are
not independent. Every measure is a ratio of two counts, summed over the passages.
"""

import re
from dataclasses import dataclass, fields
from functools import cache, cached_property
from itertools import islice

import numpy as np
from tokenizers import Encoding

from lmworks.artefact import hash_json
from lmworks.records import Score, Unscored
from lmworks.statistics.scores import linearised_ratio_score
from lmworks.tokenizer.combining_marks import combining_marks
from lmworks.tokenizer.library import batches
from lmworks.tokenizer.token_bytes import partial_tokens, unknown_ids
from lmworks.tokenizer.tokenizer import Tokenizer

VERSION = 2  # of the measures, a part of their signature
_BATCH = 1 << 20  # characters encoded at once

# Name of a measure -> (what is counted, per what, what it says).
MEASURES: dict[str, tuple[str, str, str]] = {
    "bytes per token": ("size", "tokens", "UTF-8 bytes that a token stands for: higher is shorter sequences"),
    "characters per token": ("characters", "tokens", "code points that a token stands for"),
    "fertility": ("word_tokens", "words", "tokens that a word is cut into; in scripts without spaces, a character"),
    "words kept whole": ("whole_words", "words", "share of words that are one token, which is not the unknown one"),
    "unknown tokens": ("unknown", "tokens", "share of tokens that stand for something the vocabulary lacks"),
    "parts of characters": ("partial", "tokens", "share of tokens that are no whole characters, but bytes of them"),
    "lost characters": ("lost", "characters", "share of characters other than white space that get no token at all"),
}


@dataclass(frozen=True)
class Text:
    """Passages of one language or source; `unit` says what a passage is ("file", "line")."""

    passages: tuple[str, ...]
    unit: str = "passage"

    @cached_property
    def words(self) -> list[np.ndarray]:
        """The words of each passage, (words, 2) int64: code points `[start, end)`."""
        return [np.array(word_spans(passage), dtype=np.int64).reshape(-1, 2) for passage in self.passages]

    @cached_property
    def hash(self) -> str:
        return hash_json(self.passages)

    @cached_property
    def characters(self) -> int:
        return sum(map(len, self.passages))


@dataclass(frozen=True)
class Counts:
    """Counts of one vocabulary on one text.

    Arrays (passages,) int64, but `uses` (ids,), how often each id occurs. `word_tokens` are the tokens that overlap a
    word, a token over two words counted for both; see `MEASURES` for the rest.
    """

    size: np.ndarray
    characters: np.ndarray
    tokens: np.ndarray
    words: np.ndarray
    word_tokens: np.ndarray
    whole_words: np.ndarray
    unknown: np.ndarray
    partial: np.ndarray
    lost: np.ndarray
    uses: np.ndarray


def count(tokenizer: Tokenizer, text: Text) -> Counts:
    """Encodes every passage, without the tokens that frame a text."""
    ids = max(tokenizer.backend.get_vocab(with_added_tokens=True).values()) + 1
    unknown, partial = np.zeros(ids, dtype=bool), partial_tokens(tokenizer)
    unknown[list(unknown_ids(tokenizer))] = True
    rows, uses = [], np.zeros(ids, dtype=np.int64)
    words_left = iter(text.words)
    for passages in batches(text.passages, _BATCH):
        encodings = tokenizer.backend.encode_batch(passages, add_special_tokens=False)
        for passage, words, encoding in zip(passages, islice(words_left, len(passages)), encodings, strict=True):
            rows.append(_count_passage(passage, words, encoding, unknown, partial))
            uses += np.bincount(np.array(encoding.ids, dtype=np.int64), minlength=ids)
    names = [field.name for field in fields(Counts)][:-1]
    table = np.array(rows, dtype=np.int64).reshape(-1, len(names))
    return Counts(**dict(zip(names, table.T, strict=True)), uses=uses)


def _count_passage(
    passage: str, words: np.ndarray, encoding: Encoding, unknown: np.ndarray, partial: np.ndarray
) -> tuple[int, ...]:
    """One row of `Counts`, in the order of its fields."""
    ids = np.array(encoding.ids, dtype=np.int64)
    starts, ends = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2).T
    before = np.searchsorted(ends, words[:, 0], side="right")  # tokens that end before the word begins
    overlapping = np.searchsorted(starts, words[:, 1], side="left") - before
    single = before[overlapping == 1]
    # A character is covered when more tokens have begun than ended at its place.
    depth = np.bincount(starts, minlength=len(passage) + 1) - np.bincount(ends, minlength=len(passage) + 1)
    bare = np.flatnonzero(np.cumsum(depth)[: len(passage)] == 0)
    return (
        len(passage.encode()),
        len(passage),
        len(ids),
        len(words),
        int(overlapping.sum()),
        int((~unknown[ids[single]]).sum()),
        int(unknown[ids].sum()),
        int(partial[ids].sum()),
        sum(not passage[index].isspace() for index in bare),
    )


# ---------------------------------------------------------------------------------------------------------------------
# Words

# Han, kana, Thai, Lao, Tibetan, Burmese, Khmer and their extensions: no spaces between words.
UNSPACED = (
    (0x0E01, 0x0E30), (0x0E32, 0x0E33), (0x0E40, 0x0E46),  # Thai, without its marks
    (0x0E81, 0x0EB0), (0x0EB2, 0x0EB3), (0x0EBD, 0x0EC6), (0x0EDC, 0x0EDF),  # Lao
    (0x0F40, 0x0F6C), (0x1000, 0x102A), (0x103F, 0x103F), (0x1050, 0x1055), (0x1780, 0x17B3),  # Tibetan, Burmese, Khmer
    (0x3005, 0x3007), (0x3041, 0x3096), (0x309D, 0x309F), (0x30A1, 0x30FA), (0x30FC, 0x30FF), (0x31F0, 0x31FF),
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9D), (0x20000, 0x323AF),
)  # fmt: skip


def word_spans(text: str) -> list[tuple[int, int]]:
    """The code points `[start, end)` of every word of `text`, in order."""
    return [match.span() for match in _word_pattern().finditer(text)]


@cache
def _word_pattern() -> re.Pattern[str]:
    marks = f"[{combining_marks()}]"
    unspaced = "[" + "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in UNSPACED) + "]"
    letter = rf"(?!{unspaced})[^\W_]"
    joiner = r"['’·\u200c\u200d]"
    return re.compile(rf"{unspaced}{marks}*|{letter}(?:{letter}|{marks}|{joiner}(?={letter}))*")


# ---------------------------------------------------------------------------------------------------------------------
# Measures


def scores(counts: Counts, tokenizer: Tokenizer, text: Text) -> dict[str, Score]:
    """Every measure of `MEASURES`."""
    return {
        name: linearised_ratio_score(getattr(counts, top), getattr(counts, bottom), _signature(name, tokenizer, text))
        for name, (top, bottom, _) in MEASURES.items()
    }


def parity(counts: Counts, reference: Counts, tokenizer: Tokenizer, text: Text, original: Text) -> Score:
    """Tokens of `text` for each token of `original`, the same content in another language (Petrov et al. 2023's
    premium): what its readers pay more, and have less of a context for.

    Unscored unless the two have the same number of passages, which must be translations of each other, in order.
    """
    if len(counts.tokens) != len(reference.tokens):
        passages = f"{len(counts.tokens):,} and {len(reference.tokens):,} passages"
        return Unscored(f"not parallel to the reference: {passages}")
    signature = _signature(f"parity {original.hash}", tokenizer, text)
    return linearised_ratio_score(counts.tokens, reference.tokens, signature)


def _signature(name: str, tokenizer: Tokenizer, text: Text) -> dict[str, object]:
    return {"measure": name, "version": VERSION, "tokenizer": tokenizer.hash, "text": text.hash, "unit": text.unit}
