"""Byte-pair encoding as one reads it in the paper (Sennrich et al. 2016, section 3.2), made to be read.

`merges.py` learns the same merges in C++. This is what it is tested against, and what runs where nothing is compiled.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

Pair = tuple[int, int]
Learnt = tuple[int, int, int]  # the left and the right token, and how often they were neighbours


def learn_merges(
    words: Iterable[tuple[list[int], int]],
    alphabet: int,
    least: int = 1,
    allowed: Callable[[tuple[int, ...]], bool] = lambda symbols: True,
) -> Iterator[Learnt]:
    """The merges that `words` teach, each of them symbols below `alphabet` and how often it occurs, the best first.

    The most frequent pair of neighbours becomes a token, with the next id; of equally frequent pairs the one with the
    smallest ids. So it goes on, while a pair occurs `least` times. `allowed` refuses tokens by what they spell.
    """
    texts = [(list(symbols), count) for symbols, count in words]
    spelling: list[tuple[int, ...]] = [(symbol,) for symbol in range(alphabet)]
    count_of: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)
    for number, (tokens, count) in enumerate(texts):
        for pair in pairwise(tokens):
            count_of[pair] += count
            places[pair].add(number)
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
        for number in places.pop(pair):
            tokens, times = texts[number]
            for old in pairwise(tokens):
                count_of[old] -= times
            tokens[:] = merged(tokens, pair, token)
            for new in pairwise(tokens):
                count_of[new] += times
                places[new].add(number)
                if token in new:
                    made.add(new)
        for new in made:
            heapq.heappush(queue, (-count_of[new], new))


def merged(tokens: list[int], pair: Pair, token: int) -> Iterator[int]:
    """The tokens with every `pair` of neighbours, from the left, replaced by `token`."""
    tokens, at = tokens.copy(), 0
    while at < len(tokens):
        found = tokens[at] == pair[0] and at + 1 < len(tokens) and tokens[at + 1] == pair[1]
        yield token if found else tokens[at]
        at += 2 if found else 1
