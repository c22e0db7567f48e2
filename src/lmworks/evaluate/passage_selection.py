"""Passages that stay of a ranking: none that is like a better one, and no more than a budget of tokens has room for."""

import re
from collections.abc import Sequence

SHINGLE_WORDS = 3


def shingle_overlap(one: str, other: str) -> float:
    """Jaccard similarity of the word shingles of two texts, in [0, 1]."""
    return _jaccard(_shingles(one), _shingles(other))


def unlike(texts: Sequence[str], threshold: float) -> list[int]:
    """The places of the texts whose overlap with each one kept before them is below the threshold."""
    kept: list[int] = []
    shingles = [_shingles(text) for text in texts]
    for place, own in enumerate(shingles):
        if all(_jaccard(own, shingles[better]) < threshold for better in kept):
            kept.append(place)
    return kept


def fitting(tokens: Sequence[int], budget: int) -> list[int]:
    """The places that fit a budget together, first ones first; what does not fit is passed over for smaller ones."""
    kept: list[int] = []
    for place, size in enumerate(tokens):
        if size <= budget:
            kept.append(place)
            budget -= size
    return kept


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    count = max(1, len(words) - SHINGLE_WORDS + 1)
    return frozenset(tuple(words[start : start + SHINGLE_WORDS]) for start in range(count))


def _jaccard(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> float:
    """|A ∩ B| / |A ∪ B|; neither set is ever empty."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)
