"""Features of candidate sentences, measured before anything is decided.

    late_interaction          mean over the question's tokens of their highest cosine with a token of the sentence
    overlap                   share of the question's words that the sentence has, each weighted by its rarity
    passage                   how well the sentence's passage was ranked: its cosine plus its late interaction
    passage_late_interaction  the highest late interaction of the question and any whole passage found
    passage_similarity        the highest cosine of the question and any whole passage found

A sentence is read under its headings. Words are compared as the lexical index does it (stemmed, without case and
accents), by the same tokenizer.
"""

import math
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing

import numpy as np

from lmworks.generate.text_embedding import TextEncoder
from lmworks.ground.candidate_sentences import Candidate
from lmworks.records import Retrieved
from lmworks.retrieve.catalogue import TOKENIZER
from lmworks.retrieve.index import Index
from lmworks.retrieve.late_interaction import late_interaction
from lmworks.retrieve.search import STOP_WORDS

NAMES = ("late_interaction", "overlap", "passage", "passage_late_interaction", "passage_similarity")


def measure(
    question: str, candidates: Sequence[Candidate], passages: Sequence[Retrieved], encoder: TextEncoder, index: Index
) -> np.ndarray:
    """(candidates, 5) float64, columns as in `NAMES`. The passages are reranked ones, which have both scores."""
    if not candidates:
        return np.zeros((0, len(NAMES)))
    texts = [candidate.in_context for candidate in candidates]
    (query,) = encoder.encode_tokens([question], "query")  # (question tokens, width)
    cosines = [passage.scores["dense"] for passage in passages]
    late = [passage.scores["late_interaction"] for passage in passages]
    return np.column_stack(
        [
            [late_interaction(query, tokens) for tokens in encoder.encode_tokens(texts, "passage")],
            word_overlap(question, texts, index),
            [cosines[candidate.passage] + late[candidate.passage] for candidate in candidates],
            np.full(len(texts), max(late)),
            np.full(len(texts), max(cosines)),
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
    with closing(sqlite3.connect(":memory:")) as table:  # with the tokenizer of the index; row i + 1 holds text i
        table.execute(f"CREATE VIRTUAL TABLE texts USING fts5 (text, tokenize = '{TOKENIZER}')")
        table.executemany("INSERT INTO texts (text) VALUES (?)", [(text,) for text in texts])
        for word, weight in weights.items():
            for (row,) in table.execute("SELECT rowid FROM texts WHERE texts MATCH ?", (f'"{word}"',)):
                shares[row - 1] += weight / total
    return shares


def _rarity(word: str, index: Index) -> float:
    """Inverse chunk frequency, ln((n + 1) / (df + 0.5)), never negative."""
    (frequency,) = index.connection.execute("SELECT count(*) FROM words WHERE words MATCH ?", (f'"{word}"',)).fetchone()
    return max(0.0, math.log((len(index) + 1) / (frequency + 0.5)))
