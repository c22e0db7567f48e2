"""All segmentations of the counted words into pieces (Kudo 2018): the lattice in Python, and the compiled one, which
computes the same.

A word's probability under a segmentation is the product of its pieces' probabilities (equation 1). Sums over all
segmentations go from place to place: `forward[s]` is the probability of what comes before a place, by any segmentation,
`backward[s]` that of what comes behind it. The order of all sums is the same in both, so that both round alike.
"""

import ctypes
from collections import Counter
from collections.abc import Iterable, Iterator
from math import inf, ldexp, log

import numpy as np

from lmworks.tokenizer import library
from lmworks.tokenizer.training.initial_symbols import Spelling

BLOCKS = 8  # parts of the words, whose sums are added up in order: the number of threads changes no bit
SCALE = 256  # sums that fall below 2^-256 grow by 2^256, so that long words do not come out as 0
Piece = tuple[int, ...]
Word = tuple[Piece, int]  # symbols, and how often the texts have them


class PythonLattice:
    """In Python: the definition.

    The pieces have numbers: first the characters of the alphabet, which are never dropped, then longer ones, those with
    the higher product of frequency and length first. `scores` are natural logarithms of probabilities.

    alphabet     how many of the pieces are characters
    lengths      (pieces,) int32, characters
    frequencies  (pieces,) int64: how often the texts have each, also where they overlap
    """

    def __init__(self, spelling: Spelling, longest: int, seed_size: int, least: int) -> None:
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


class CompiledLattice:
    """In C++."""

    def __init__(self, spelling: Spelling, longest: int, seed_size: int, least: int) -> None:
        compiled = library.load()
        assert compiled is not None
        self._library, self._spelling, self.alphabet = compiled, spelling, len(spelling.alphabet)
        cells, starts, weights = spelling.cells, spelling.starts, spelling.weights
        self._lattice = compiled.lmworks_unigram_new(
            *(cells.ctypes.data, len(cells)),
            *(starts.ctypes.data, weights.ctypes.data, len(starts)),
            *(self.alphabet, longest, least, seed_size, BLOCKS),
        )
        if not self._lattice:
            raise MemoryError("not enough memory to learn pieces: raise min_word_count")
        self._read()

    def __del__(self) -> None:
        if getattr(self, "_lattice", None):
            self._library.lmworks_unigram_free(self._lattice)

    def _read(self) -> None:
        size = self._library.lmworks_unigram_size(self._lattice)
        self._begins, self.lengths = np.empty(size, np.uint32), np.empty(size, np.int32)
        self.frequencies = np.empty(size, np.int64)
        arrays = (self._begins, self.lengths, self.frequencies)
        self._library.lmworks_unigram_read(self._lattice, *(array.ctypes.data for array in arrays))

    def names(self, numbers: Iterable[int]) -> list[str]:
        cells, alphabet = self._spelling.cells, self._spelling.alphabet
        spans = ((int(self._begins[number]), int(self.lengths[number])) for number in numbers)
        return ["".join(alphabet[cell] for cell in cells[start : start + length].tolist()) for start, length in spans]

    def expect(self, block: int, probabilities: np.ndarray) -> tuple[np.ndarray, float]:
        expected, likelihood = np.zeros(len(self.lengths)), ctypes.c_double()
        result = self._library.lmworks_unigram_expect(
            self._lattice, block, probabilities.ctypes.data, expected.ctypes.data, ctypes.addressof(likelihood)
        )
        library.check(result)
        return expected, likelihood.value

    def best(self, block: int, scores: np.ndarray) -> np.ndarray:
        counts = np.zeros(len(self.lengths), np.int64)
        library.check(self._library.lmworks_unigram_best(self._lattice, block, scores.ctypes.data, counts.ctypes.data))
        return counts

    def alternatives(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ends, others = np.empty(len(self.lengths), np.int64), np.empty(self.lengths.sum(), np.uint32)
        result = self._library.lmworks_unigram_alternatives(
            self._lattice, scores.ctypes.data, ends.ctypes.data, others.ctypes.data
        )
        library.check(result)
        return ends, others[: ends[-1]]

    def keep(self, chosen: np.ndarray) -> None:
        marked = np.ascontiguousarray(chosen, np.uint8)
        library.check(self._library.lmworks_unigram_keep(self._lattice, marked.ctypes.data))
        self._read()


Lattice = CompiledLattice | PythonLattice


def new_lattice(spelling: Spelling, longest: int, seed_size: int, least: int = 2) -> Lattice:
    """With the pieces that learning begins with: the characters, and of the stretches of 2 to `longest` characters that
    occur `least` times, and not always before the same character, the `seed_size` best by frequency times length."""
    lattice = CompiledLattice if library.load() is not None else PythonLattice
    return lattice(spelling, longest, seed_size, least)
