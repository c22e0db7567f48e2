"""How much of a text repeats itself: the measures of Rae et al. 2021, appendix A.1.1 and table A1.

Lines and paragraphs that repeat an earlier one, character for character; blank ones are none (datatrove 0.10.1 counts
the empty ends of a text as lines, two of which are duplicates).

Blocks of code between fences of Markdown, and the bars of its tables, are left out of everything (`prose`).

n-grams are of tokens, as datatrove's are; where most words are single characters, as in Chinese, Japanese and Thai, n
stands for twice as many of them, since a word has two or more. For n of 2 to 4: the characters within the most frequent
n-gram, spaces included, that occurs twice at least; of several the first. Characters that two occurrences share count
once, as they do in the paper. datatrove puts one space between any two tokens, counts shared ones twice ("+ + + +" is
more than all of itself), and takes an n-gram that occurs once, which drops texts of a few words.

For n of 5 to 10 the greedy measure of datatrove: from left to right, an n-gram that was seen before counts the
characters of its tokens, and the look goes on behind it; another one is seen from now on, and the look goes on at the
next token. The share is of all characters, spaces included, although those counted hold none: `token_character_share`
is the most that it can be, and divided by it, it is a share of what is no space.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count

import numpy as np

from lmworks.data.annotate.prose import prose
from lmworks.data.annotate.words import unspaced_share
from lmworks.data.annotation import Annotations, Text

_TOP = range(2, 5)  # n of the most frequent n-gram
_DUPLICATE = range(5, 11)  # n of duplicate n-grams
_BLANK_LINES = re.compile(r"\n\s*\n")


def repetition(text: Text) -> Annotations:
    """Measures from 0 to 1; absent where there is no such piece (no line, no n tokens).

    duplicate_line_share             Of the lines, those that repeat an earlier one.
    duplicate_line_character_share   Of all characters of the text, those in them.
    duplicate_paragraph_share, duplicate_paragraph_character_share   The same of paragraphs.
    top_2_gram_character_share       ... to `top_4_gram_character_share`.
    duplicate_5_gram_character_share ... to `duplicate_10_gram_character_share`.
    token_character_share            Of all characters, those that are no spaces.
    """
    text = prose(text)
    length = 2 if unspaced_share(text.words) > 0.5 else 1
    return Annotations({**_pieces(text), **n_gram_shares(text.tokens, text.text, length)})


def duplicates(pieces: Sequence[str]) -> tuple[int, int]:
    """How many pieces repeat an earlier one, and the characters in those."""
    distinct = set(pieces)
    return len(pieces) - len(distinct), sum(map(len, pieces)) - sum(map(len, distinct))


def _pieces(text: Text) -> dict[str, float]:
    lines = [line for line in text.lines if line and not line.isspace()]
    if not lines:
        return {}
    measures: dict[str, float] = {}
    for name, pieces in (("line", lines), ("paragraph", _BLANK_LINES.split(text.text.strip()))):
        number, characters = duplicates(pieces)
        measures[f"duplicate_{name}_share"] = number / len(pieces)
        measures[f"duplicate_{name}_character_share"] = characters / len(text.text)
    return measures


@dataclass(frozen=True, slots=True)
class _Repeated:
    """The n-grams of some n that occur more than once.

    positions  (k,) int64, ascending: of the first token of each occurrence.
    ranks      (k,) int64 below `kinds`: equal where n-grams are equal.
    """

    positions: np.ndarray
    ranks: np.ndarray
    kinds: int


def n_gram_shares(tokens: Sequence[str], text: str, length: int = 1) -> dict[str, float]:
    """The measures of n-grams; `tokens` are all characters of `text` that are no spaces, in their order. A measure of n
    is of n times `length` tokens."""
    if not tokens:
        return {}
    numbers: defaultdict[str, int] = defaultdict(count().__next__)  # of tokens, by first occurrence
    ids = np.fromiter(map(numbers.__getitem__, tokens), np.int64, len(tokens))
    lengths = np.fromiter(map(len, numbers), np.int64, len(numbers))[ids]
    behind = np.concatenate(([0], np.cumsum(lengths)))  # behind[i]: characters of the first i tokens
    measures: dict[str, float] = {"token_character_share": float(behind[-1] / len(text))}
    places = _places(text)
    repeated = _repeated_tokens(ids)
    for size in range(2, min(length * _DUPLICATE[-1], len(tokens)) + 1):
        repeated = _one_longer(repeated)
        n = size // length if size % length == 0 else 0
        if n in _TOP:
            measures[f"top_{n}_gram_character_share"] = _top_characters(repeated, size, behind, places) / len(text)
        if n in _DUPLICATE:
            measures[f"duplicate_{n}_gram_character_share"] = _greedy_characters(repeated, size, behind) / len(text)
    return measures


def _repeated_tokens(ids: np.ndarray) -> _Repeated:
    counts = np.bincount(ids)
    positions = np.flatnonzero(counts[ids] > 1)
    return _Repeated(positions, ids[positions], len(counts))


def _one_longer(shorter: _Repeated) -> _Repeated:
    """The repeated n-grams from those of n - 1: both ends of a repeated n-gram are repeated, and it is known by the
    pair of their ranks, so nothing is hashed and nothing can collide."""
    if not len(shorter.positions):  # most texts end here early
        return shorter
    starts = np.flatnonzero(shorter.positions[1:] == shorter.positions[:-1] + 1)
    pairs = shorter.ranks[starts] * shorter.kinds + shorter.ranks[starts + 1]
    _, ranks, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    again = counts[ranks] > 1
    return _Repeated(shorter.positions[starts[again]], ranks[again], len(counts))


def _top_characters(repeated: _Repeated, n: int, behind: np.ndarray, places: np.ndarray) -> int:
    """Characters of the text that the most frequent n-gram covers."""
    if not len(repeated.positions):
        return 0
    counts = np.bincount(repeated.ranks)
    top = repeated.ranks[np.argmax(counts[repeated.ranks])]  # of several the one that occurs first
    first = repeated.positions[repeated.ranks == top]
    starts = places[behind[first]]
    ends = places[behind[first + n] - 1] + 1
    free = np.concatenate(([0], ends[:-1]))  # where the occurrence before ends
    return int((ends - np.maximum(starts, free)).sum())


def _greedy_characters(repeated: _Repeated, n: int, behind: np.ndarray) -> int:
    """Only at n-grams that occur twice can the look find one that it has seen."""
    seen: set[int] = set()
    found: list[int] = []
    free = 0  # the first token that no n-gram found so far holds
    for position, rank in zip(repeated.positions.tolist(), repeated.ranks.tolist(), strict=True):
        if position < free:
            continue
        if rank in seen:
            found.append(position)
            free = position + n
        else:
            seen.add(rank)
    if not found:
        return 0
    starts = np.array(found, np.int64)
    return int((behind[starts + n] - behind[starts]).sum())


def _places(text: str) -> np.ndarray:
    """Where the characters that are no spaces stand."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return np.flatnonzero(~_spaces()[np.minimum(codes, _LAST_SPACE + 1)])


_LAST_SPACE = 0x3000


@cache
def _spaces() -> np.ndarray:
    """Whether a code point is a space, up to one behind the last that is."""
    return np.array([chr(code).isspace() for code in range(_LAST_SPACE + 2)])
