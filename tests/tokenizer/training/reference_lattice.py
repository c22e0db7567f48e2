"""The lattice of Unigram in Python (Kudo 2018): the definition that the compiled one is compared with.

A word's probability under a segmentation is the product of its pieces' probabilities (equation 1). Sums over all
segmentations go from place to place: `forward[s]` is the probability of what comes before a place, by any segmentation,
`backward[s]` that of what comes behind it. The order of all sums is that of the compiled lattice: both round alike.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from math import inf, ldexp, log

import numpy as np

from lmworks.tokenizer.training.initial_symbols import Spelling
from lmworks.tokenizer.training.unigram import BLOCKS

SCALE = 256  # sums that fall below 2^-256 grow by 2^256, so that long words do not come out as 0
Piece = tuple[int, ...]
Word = tuple[Piece, int]  # symbols, and how often the texts have them


class PythonLattice:
    """`unigram.Lattice`, whose docstrings say what its methods give."""

    def __init__(self, spelling: Spelling, longest: int, seed_size: int, least: int = 2) -> None:
        self._spelling, self.alphabet = spelling, len(spelling.alphabet)
        self._words: list[Word] = [(tuple(symbols), times) for symbols, times in spelling.words()]
        characters = Counter[int]()
        for symbols, times in self._words:
            for symbol in symbols:
                characters[symbol] += times
        seeds = find_seeds(self._words, longest, least)[:seed_size]
        self._set(
            [*((symbol,) for symbol in range(self.alphabet)), *(piece for piece, _ in seeds)],
            [*(characters[symbol] for symbol in range(self.alphabet)), *(frequency for _, frequency in seeds)],
        )

    def _set(self, pieces: list[Piece], frequencies: list[int]) -> None:
        self._pieces, self._numbers = pieces, {piece: number for number, piece in enumerate(pieces)}
        self._longest = max(map(len, pieces), default=1)
        self.lengths = np.array([len(piece) for piece in pieces], np.int32)
        self.frequencies = np.array(frequencies, np.int64)

    def _block(self, block: int) -> list[Word]:
        number = len(self._words)
        return self._words[number * block // BLOCKS : number * (block + 1) // BLOCKS]

    def _edges(self, symbols: Piece, start: int) -> Iterator[tuple[int, int]]:
        """The pieces that begin at a place, the shorter first, and where each ends."""
        for end in range(start + 1, min(start + self._longest, len(symbols)) + 1):
            number = self._numbers.get(symbols[start:end])
            if number is not None:
                yield number, end

    def names(self, numbers: Iterable[int]) -> list[str]:
        return ["".join(self._spelling.alphabet[symbol] for symbol in self._pieces[number]) for number in numbers]

    def expect(self, block: int, probabilities: np.ndarray) -> tuple[np.ndarray, float]:
        """The expected count of each piece in one of `BLOCKS` parts of the words, (pieces,) float64, and the natural
        logarithm of these words' likelihood. Several blocks may be computed at once."""
        expected, likelihood, probability = [0.0] * len(self._pieces), 0.0, probabilities.tolist()
        for symbols, times in self._block(block):
            forward, scaled = self._forward(symbols, probability)
            whole = forward[-1]
            likelihood += times * (log(whole) - scaled[-1] * log(2.0**SCALE))
            backward, exponent = [0.0] * len(symbols) + [1.0], 0
            for start in reversed(range(len(symbols))):
                excess = scaled[start] + exponent - scaled[-1]
                share = ldexp(times * (forward[start] / whole), -SCALE * excess)
                for piece, end in self._edges(symbols, start):
                    rest = probability[piece] * backward[end]
                    backward[start] += rest
                    expected[piece] += share * rest
                exponent += self._rescale(backward, start)
        return np.array(expected), likelihood

    def _forward(self, symbols: Piece, probability: list[float]) -> tuple[list[float], list[int]]:
        """The sums, and how often each has been scaled."""
        forward, scaled, exponent = [1.0] + [0.0] * len(symbols), [], 0
        for start in range(len(symbols) + 1):
            exponent += self._rescale(forward, start)
            scaled.append(exponent)
            for piece, end in self._edges(symbols, start):
                forward[end] += forward[start] * probability[piece]
        return forward, scaled

    def _rescale(self, sums: list[float], start: int) -> int:
        if sums[start] >= 2.0**-SCALE:
            return 0
        for index in range(start, min(start + self._longest, len(sums) - 1) + 1):
            sums[index] *= 2.0**SCALE
        return 1

    def best(self, block: int, scores: np.ndarray) -> np.ndarray:
        """(pieces,) int64: how often each piece is in the best segmentations of a block's words."""
        counts, score = [0] * len(self._pieces), scores.tolist()
        for symbols, times in self._block(block):
            for piece in self._best(symbols, score):
                counts[piece] += times
        return np.array(counts, np.int64)

    def _best(self, symbols: Piece, score: list[float], others: bool = False) -> list[int]:
        """The pieces of the best segmentation (Viterbi 1967), the last first; of equally good ones that with the
        longest last piece. With `others`, `symbols` is itself no piece."""
        best, last = [0.0] + [-inf] * len(symbols), [(0, 0)] * (len(symbols) + 1)
        for start in range(len(symbols)):
            for piece, end in self._edges(symbols, start):
                total = best[start] + score[piece]
                if total > best[end] and not (others and end - start == len(symbols)):
                    best[end], last[end] = total, (piece, start)
        best_pieces, position = [], len(symbols)
        while position:
            piece, position = last[position]
            best_pieces.append(piece)
        return best_pieces

    def alternatives(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`(ends, others)`: the pieces that each piece is best cut into without itself, behind each other, the last one
        first, and where these end, (pieces,) int64. A character has none."""
        score = scores.tolist()
        others = [self._best(piece, score, others=True) if len(piece) > 1 else [] for piece in self._pieces]
        ends = np.cumsum([len(pieces) for pieces in others], dtype=np.int64)
        return ends, np.array([piece for pieces in others for piece in pieces], np.uint32)

    def keep(self, chosen: np.ndarray) -> None:
        """Drops the pieces that a (pieces,) mask does not choose; the others move up."""
        kept = np.flatnonzero(chosen).tolist()
        self._set([self._pieces[number] for number in kept], self.frequencies[kept].tolist())


def find_seeds(words: Iterable[Word], longest: int, least: int) -> list[tuple[Piece, int]]:
    """Stretches of 2 to `longest` symbols that occur `least` times, and not always before the same symbol; the highest
    frequency times length first, then in the order of the symbols."""
    frequencies, follower, parting = Counter[Piece](), dict[Piece, int](), set[Piece]()
    for symbols, times in words:
        for start in range(len(symbols)):
            for end in range(start + 2, min(start + longest, len(symbols)) + 1):
                piece = symbols[start:end]
                frequencies[piece] += times
                if end == len(symbols) or follower.setdefault(piece, symbols[end]) != symbols[end]:
                    parting.add(piece)
    seeds = [(piece, frequency) for piece, frequency in frequencies.items() if piece in parting and frequency >= least]
    return sorted(seeds, key=lambda seed: (-seed[1] * len(seed[0]), seed[0]))
