"""What is measured about a candidate sentence before anything is decided.

    similarity          cosine of the question and the sentence under its headings
    overlap             share of the question's words that the sentence has, each weighted by its rarity
    passage_similarity  highest cosine of the question and any passage found
    passage_overlap     the same share as `overlap`, of the words that the sentence's whole passage has

The words are compared as the lexical index does it (stemmed, without case and accents), by the same tokenizer.

On the calibration split of the hand-written questions, the query likelihood under a 135M language model,
ln p(question | sentence) - ln p(question) (Sachan et al. 2022), ranked sentences worse than `similarity` did and added
nothing to these four; it is not part of them.
"""

import math
import re
import sqlite3
from collections.abc import Sequence

import numpy as np

from lmworks.ground.candidates import Candidate
from lmworks.records import Retrieved
from lmworks.retrieve.index import Encode, Index
from lmworks.retrieve.search import STOP_WORDS

NAMES = ("similarity", "overlap", "passage_similarity", "passage_overlap")


def measure(
    question: str, candidates: Sequence[Candidate], passages: Sequence[Retrieved], encode: Encode, index: Index
) -> np.ndarray:
    """(candidates, 4) float64, columns as in `NAMES`."""
    if not candidates:
        return np.zeros((0, len(NAMES)))
    query = encode([question], "query")[0]  # (width,)
    vectors = encode([candidate.in_context for candidate in candidates], "passage")  # (candidates, width)
    heads = {candidate.passage: candidate.heading for candidate in candidates}
    texts = [candidate.in_context for candidate in candidates]
    whole = [f"{heads.get(number, '')} {passage.text}" for number, passage in enumerate(passages)]
    shares = word_overlap(question, [*texts, *whole], index)
    own, of_passage = shares[: len(texts)], shares[len(texts) :]
    closest = max((passage.scores.get("dense", -1.0) for passage in passages), default=-1.0)
    return np.column_stack(
        [
            vectors @ query,
            own,
            np.full(len(candidates), closest),
            [of_passage[candidate.passage] for candidate in candidates],
        ]
    ).astype(np.float64)


def word_overlap(question: str, texts: Sequence[str], index: Index) -> np.ndarray:
    """(texts,) shares in [0, 1] of the question's words that each text has, weighted by inverse chunk frequency.

    A word that no chunk of the index has weighs most: a text can never make up for it. A question of stop words alone
    shares nothing with any text.
    """
    words = {word.lower() for word in re.findall(r"\w+", question)} - STOP_WORDS
    weights = {word: _rarity(word, index) for word in sorted(words)}
    total = sum(weights.values())
    shares = np.zeros(len(texts))
    if not total:
        return shares
    with _word_table(texts) as table:
        for word, weight in weights.items():
            for (row,) in table.execute("SELECT rowid FROM texts WHERE texts MATCH ?", (f'"{word}"',)):
                shares[row - 1] += weight / total
    return shares


def _rarity(word: str, index: Index) -> float:
    """Inverse chunk frequency, ln((n + 1) / (df + 0.5)), never negative."""
    (frequency,) = index.connection.execute("SELECT count(*) FROM words WHERE words MATCH ?", (f'"{word}"',)).fetchone()
    return max(0.0, math.log((len(index) + 1) / (frequency + 0.5)))


class _word_table:  # noqa: N801 - used as a context manager, like a function
    """A throwaway table with the tokenizer of the index; row i + 1 holds text i."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.connection = sqlite3.connect(":memory:")
        self.connection.execute(
            "CREATE VIRTUAL TABLE texts USING fts5 (text, tokenize = 'porter unicode61 remove_diacritics 2')"
        )
        self.connection.executemany("INSERT INTO texts (text) VALUES (?)", [(text,) for text in texts])

    def __enter__(self) -> sqlite3.Connection:
        return self.connection

    def __exit__(self, *_: object) -> None:
        self.connection.close()
