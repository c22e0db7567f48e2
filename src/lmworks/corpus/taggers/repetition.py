"""Repetition within a text: Rae et al. 2021, appendix A.1.1 and table A1, of its prose.

Lines and paragraphs that repeat an earlier one, character for character; blank ones are none. n-grams are of tokens, as
datatrove's are; where most words are single characters, as in Chinese, n stands for twice as many. For n of 2 to 4: the
characters within the most frequent n-gram, spaces included, that occurs twice at least; of several the first; what two
occurrences share counts once, as in the paper (datatrove counts it twice, puts one space between any two tokens, and
takes an n-gram that occurs once). For n of 5 to 10 the greedy measure of datatrove: from left to right, an n-gram that
was seen before counts the characters of its tokens, and the look continues behind it, else at the next token.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from itertools import count

import numpy as np

from lmworks.corpus.attributes import Attributes
from lmworks.corpus.taggers.tagger import Text, built_in
from lmworks.corpus.taggers.words import UNSPACED, mostly

_TOP = range(2, 5)  # n of the most frequent n-gram
_DUPLICATE = range(5, 11)  # n of duplicate n-grams
_BLANK_LINES = re.compile(r"\n\s*\n")
_LAST_SPACE = 0x3000


def repetition(text: Text) -> Attributes:
    """Shares from 0 to 1; absent where there is no such piece (no line, no n tokens)."""
    text = text.prose
    scores: dict[str, float] = {}
    if lines := [line for line in text.lines if line and not line.isspace()]:
        for name, pieces in (("line", lines), ("paragraph", _BLANK_LINES.split(text.text.strip()))):
            number, characters = duplicates(pieces)
            scores[f"duplicate_{name}_share"] = number / len(pieces)
            scores[f"duplicate_{name}_character_share"] = characters / len(text.text)
    length = 2 if mostly(UNSPACED, text.words) else 1
    return Attributes(scores | n_gram_shares(text.tokens, text.text, length))


REPETITION = built_in("repetition", repetition)


def duplicates(pieces: Sequence[str]) -> tuple[int, int]:
    """Count the pieces that repeat an earlier one, and the characters in those."""
    distinct = set(pieces)
    return len(pieces) - len(distinct), sum(map(len, pieces)) - sum(map(len, distinct))


def n_gram_shares(tokens: Sequence[str], text: str, length: int = 1) -> dict[str, float]:
    """The scores of n-grams; `tokens` are all characters of `text` that are no spaces, in their order. A score of n is
    of n times `length` tokens."""
    if not tokens:
        return {}
    numbers: defaultdict[str, int] = defaultdict(count().__next__)  # of tokens, by first occurrence
    ids = np.fromiter(map(numbers.__getitem__, tokens), np.int64, len(tokens))
    lengths = np.fromiter(map(len, numbers), np.int64, len(numbers))[ids]
    behind = np.concatenate(([0], np.cumsum(lengths)))  # behind[i]: characters of the first i tokens
    scores: dict[str, float] = {}
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    places = np.flatnonzero(~_spaces()[np.minimum(codes, _LAST_SPACE + 1)])  # of what is no space
    # n-grams that occur more than once: where their first tokens are, ascending, and ranks, equal where they are equal.
    counts = np.bincount(ids)
    positions = np.flatnonzero(counts[ids] > 1)
    ranks, kinds = ids[positions], len(counts)
    for size in range(2, min(length * _DUPLICATE[-1], len(tokens)) + 1):
        if len(positions):  # most texts end here early
            # Both ends of a repeated n-gram are repeated, and it is known by the pair of their ranks, so nothing is
            # hashed and nothing can collide.
            starts = np.flatnonzero(positions[1:] == positions[:-1] + 1)
            pairs = ranks[starts] * kinds + ranks[starts + 1]
            _, ranks, counts = np.unique(pairs, return_inverse=True, return_counts=True)
            again = counts[ranks] > 1
            positions, ranks, kinds = positions[starts[again]], ranks[again], len(counts)
        n = size // length if size % length == 0 else 0
        if n in _TOP:
            covered = _top_characters(positions, ranks, size, behind, places)
            scores[f"top_{n}_gram_character_share"] = covered / len(text)
        if n in _DUPLICATE:
            covered = _greedy_characters(positions, ranks, size, behind)
            scores[f"duplicate_{n}_gram_character_share"] = covered / len(text)
    return scores


def _top_characters(positions: np.ndarray, ranks: np.ndarray, n: int, behind: np.ndarray, places: np.ndarray) -> int:
    """Characters of the text that the most frequent n-gram covers."""
    if not len(positions):
        return 0
    top = ranks[np.argmax(np.bincount(ranks)[ranks])]  # of several the one that occurs first
    first = positions[ranks == top]
    starts, ends = places[behind[first]], places[behind[first + n] - 1] + 1
    free = np.concatenate(([0], ends[:-1]))  # where the occurrence before ends
    return int((ends - np.maximum(starts, free)).sum())


def _greedy_characters(positions: np.ndarray, ranks: np.ndarray, n: int, behind: np.ndarray) -> int:
    """Only at n-grams that occur twice can the look find one that it has seen."""
    seen: set[int] = set()
    free = characters = 0  # `free`: the first token that no n-gram found so far holds
    for position, rank in zip(positions.tolist(), ranks.tolist(), strict=True):
        if position >= free and rank in seen:
            free = position + n
            characters += int(behind[free] - behind[position])
        elif position >= free:
            seen.add(rank)
    return characters


@cache
def _spaces() -> np.ndarray:
    """Whether a code point is a space, up to one behind the last that is."""
    return np.array([chr(code).isspace() for code in range(_LAST_SPACE + 2)])
