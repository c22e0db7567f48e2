"""Learning merges: byte-pair encoding's training (Sennrich et al. 2016) on words that have been counted.

`reference_merges` is the algorithm as one reads it in the paper: the oracle of the compiled learner, and what runs
where nothing is compiled.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TypeVar

import numpy as np

from lmworks.progress import Report, no_report
from lmworks.tokenizer import library
from lmworks.tokenizer.training.initial_symbols import Spelling

_AT_ONCE = 500  # merges between two reports of progress
_OFTEN, _LONG = 2**63 - 1, 2**31 - 1  # no pair is more frequent, and no token that is learnt is longer
Pair = tuple[int, int]
Token = TypeVar("Token", int, str)
_LEARNT = np.dtype([("left", np.int32), ("right", np.int32), ("count", np.int64)])


@dataclass(frozen=True, slots=True, eq=False)
class Merges:
    """Learnt merges, in their order; merge i makes the token that is i places behind the alphabet.

    tokens  what each token is spelt like: the alphabet, then what merging has made
    left, right  (merges,) int32: which two tokens are merged
    counts  (merges,) int64: how often the two were neighbours when they were merged
    """

    tokens: tuple[str, ...]
    left: np.ndarray
    right: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.left)

    def pairs(self) -> list[tuple[str, str]]:
        """The two tokens of each merge."""
        names = self.tokens
        return [(names[a], names[b]) for a, b in zip(self.left.tolist(), self.right.tolist(), strict=True)]


def learn_merges(
    spelling: Spelling,
    vocabulary_size: int,
    *,
    least: int = 1,
    longest: int = 0,
    forbidden: Iterable[Sequence[str]] = (),
    continuing: str = "",
    progress: Report = no_report,
) -> Merges:
    """Merges until there are `vocabulary_size` tokens, or no pair occurs `least` times.

    A token has at most `longest` symbols (0: any number) and is none of `forbidden`, texts or tuples of tokens of the
    alphabet. `continuing` is what stands before a token that continues a word, and falls away when one is merged into
    another. The same input gives the same merges, with the compiled learner and without. `spelling.cells` is used up.
    Numbers above what the words hold mean no more than that, and take no memory.
    """
    size, cells = len(spelling.alphabet), len(spelling.cells)  # every merge takes a cell away, at least
    symbol_of = {token: symbol for symbol, token in enumerate(spelling.alphabet)}
    spelt = [(names[0], *(continuing + name for name in names[1:])) for names in forbidden]
    banned = [tuple(map(symbol_of.__getitem__, names)) for names in spelt if symbol_of.keys() >= set(names)]
    learner = _compiled if library.load() is not None else _in_python
    room = min(max(vocabulary_size - size, 0), cells)
    learnt = learner(spelling, room, min(least, _OFTEN), min(longest, _LONG), banned, progress)
    tokens = list(spelling.alphabet)
    for left, right in zip(learnt["left"].tolist(), learnt["right"].tolist(), strict=True):
        tokens.append(tokens[left] + tokens[right].removeprefix(continuing))
    return Merges(tuple(tokens), learnt["left"], learnt["right"], learnt["count"])


def _compiled(
    spelling: Spelling, merges: int, least: int, longest: int, banned: Sequence[tuple[int, ...]], progress: Report
) -> np.ndarray:
    compiled = library.load()
    assert compiled is not None
    cells, starts, weights = spelling.cells, spelling.starts, spelling.weights
    learner = compiled.lmworks_merges_new(
        *(cells.ctypes.data, len(cells)),
        *(starts.ctypes.data, weights.ctypes.data, len(starts)),
        *(len(spelling.alphabet), least, longest),
    )
    if not learner:
        raise MemoryError("not enough memory to learn merges: raise min_word_count")
    try:
        for symbols in banned:
            array = np.array(symbols, np.int32)
            library.check(compiled.lmworks_merges_forbid(learner, array.ctypes.data, len(array)))
        learnt, done = [np.empty(0, _LEARNT)], 0
        while done < merges:
            some = np.empty(min(_AT_ONCE, merges - done), _LEARNT)
            number = library.check(compiled.lmworks_merges_learn(learner, len(some), some.ctypes.data))
            learnt.append(some[:number])
            done += number
            progress(done, merges, "merges learnt")
            if number < len(some):
                break
        return np.concatenate(learnt)
    finally:
        compiled.lmworks_merges_free(learner)


def _in_python(
    spelling: Spelling, merges: int, least: int, longest: int, banned: Sequence[tuple[int, ...]], progress: Report
) -> np.ndarray:
    never = set(banned)

    def allowed(symbols: tuple[int, ...]) -> bool:
        return (not longest or len(symbols) <= longest) and symbols not in never

    learnt: list[tuple[int, int, int]] = []
    for merge in islice(reference_merges(spelling.words(), len(spelling.alphabet), max(least, 1), allowed), merges):
        learnt.append(merge)
        if len(learnt) % _AT_ONCE == 0:
            progress(len(learnt), merges, "merges learnt")
    return np.array(learnt, _LEARNT)


# ---------------------------------------------------------------------------------------------------------------------
# The reference


def reference_merges(
    words: Iterable[tuple[list[int], int]],
    alphabet: int,
    least: int = 1,
    allowed: Callable[[tuple[int, ...]], bool] = lambda symbols: True,
) -> Iterator[tuple[int, int, int]]:
    """The left and the right token of each merge, and how often they were neighbours, the best first.

    `words` are symbols below `alphabet`, and how often each occurs. The most frequent pair of neighbours becomes a
    token, with the next id; of equally frequent pairs the one with the smallest ids. So it continues, while a pair
    occurs `least` times. `allowed` refuses tokens by what they spell.
    """
    texts = [(list(symbols), count) for symbols, count in words]
    spelling: list[tuple[int, ...]] = [(symbol,) for symbol in range(alphabet)]
    count_of: Counter[Pair] = Counter()
    words_with: defaultdict[Pair, set[int]] = defaultdict(set)
    for number, (tokens, count) in enumerate(texts):
        for pair in pairwise(tokens):
            count_of[pair] += count
            words_with[pair].add(number)
    queue = [(-count, pair) for pair, count in count_of.items()]
    heapq.heapify(queue)
    while queue:
        negative, pair = heapq.heappop(queue)
        count = count_of[pair]
        if count != -negative:  # it has become rarer since it was queued
            heapq.heappush(queue, (-count, pair))
            continue
        symbols = spelling[pair[0]] + spelling[pair[1]]
        if count < least or not allowed(symbols):
            continue
        token = len(spelling)
        spelling.append(symbols)
        yield *pair, count
        made: set[Pair] = set()
        for number in words_with.pop(pair):
            tokens, times = texts[number]
            for old in pairwise(tokens):
                count_of[old] -= times
            tokens[:] = merged(tokens, pair, token)
            for new in pairwise(tokens):
                count_of[new] += times
                words_with[new].add(number)
                if token in new:
                    made.add(new)
        for new in made:
            heapq.heappush(queue, (-count_of[new], new))


def merged(tokens: Sequence[Token], pair: tuple[Token, Token], token: Token) -> list[Token]:
    """The tokens with every `pair` of neighbours, from the left, replaced by `token`."""
    joined: list[Token] = []
    at = 0
    while at < len(tokens):
        is_pair = tokens[at] == pair[0] and at + 1 < len(tokens) and tokens[at + 1] == pair[1]
        joined.append(token if is_pair else tokens[at])
        at += 2 if is_pair else 1
    return joined
