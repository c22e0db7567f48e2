"""What the tests of duplicates share: similarity by definition, planted near duplicates, and the reference alone."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest

from lmworks.corpus.dedup import library
from lmworks.corpus.dedup.hashes import words
from lmworks.corpus.dedup.kept_duplicates import best_of_groups, linked
from lmworks.corpus.dedup.match_tables import Pairs
from lmworks.corpus.dedup.near_duplicates import Keys, NearDuplicatesConfig, compare, keys_of_texts


@contextmanager
def uncompiled() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "load", lambda: None)
        yield


def shingle_texts(text: str, size: int = 5) -> set[tuple[str, ...]]:
    """The shingles as tuples of words, without a hash."""
    found = words(text)
    return {tuple(found[start : start + size]) for start in range(max(len(found) - size, 0) + 1)} - {()}


def true_jaccard(first: str, second: str, size: int = 5) -> float:
    one, other = shingle_texts(first, size), shingle_texts(second, size)
    return len(one & other) / len(one | other)


def random_text(generator: random.Random, number: int) -> str:
    """Words of a vocabulary so large that two texts share no shingle."""
    return " ".join(f"w{generator.randrange(10**6)}" for _ in range(number))


def edited(generator: random.Random, text: str, edits: int) -> str:
    """The text with so many of its words replaced, at random places."""
    found = text.split()
    for place in generator.sample(range(len(found)), edits):
        found[place] = f"new{generator.randrange(10**6)}"
    return " ".join(found)


def near(
    texts: Sequence[str], config: NearDuplicatesConfig, rank: np.ndarray | None = None, keys: Keys | None = None
) -> tuple[Pairs, list[int]]:
    """The similar pairs of texts, and which texts go; without a rank the first ones are the best."""
    rank = np.arange(len(texts)) if rank is None else rank
    pairs = compare(texts, np.argsort(rank), keys_of_texts(texts, config) if keys is None else keys, config).pairs
    kept = best_of_groups(linked(pairs.first, pairs.second, len(texts)), rank, np.ones(len(texts), bool))
    return pairs, np.flatnonzero(kept != np.arange(len(texts))).tolist()
