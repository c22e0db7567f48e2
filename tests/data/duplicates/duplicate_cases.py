"""What the tests of duplicates share: similarity by definition, planted near duplicates, and the reference alone."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lmworks.data.duplicates import library
from lmworks.data.duplicates.words import words

MULTIPLIER = 0xD1342543DE82EF95


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
