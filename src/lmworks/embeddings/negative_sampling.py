"""Random numbers, and what is drawn by them: which words of the text are kept, and noise words."""

from dataclasses import dataclass

import numpy as np

_ONE = 1 << 32  # probabilities are compared with 32 random bits
_STEP = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


class Random:
    """SplitMix64 (Steele, Lea & Flood 2014, figure 17): few lines, the same numbers in every language."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def draw(self, number: int) -> np.ndarray:
        """(number,) uint64: the next random numbers."""
        steps = np.arange(1, number + 1, dtype=np.uint64) * np.uint64(_STEP)
        states = np.uint64(self._state) + steps  # modulo 2^64, as all arithmetic of arrays of uint64
        self._state = (self._state + number * _STEP) & _MASK
        return _mix(states)


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def stream_seed(*numbers: int) -> int:
    """A seed for each combination of numbers, such as the user's seed, the epoch and the part of the text."""
    seed = np.zeros(1, np.uint64)
    for number in numbers:
        seed = _mix(seed + np.uint64((number + 1) * _STEP & _MASK))
    return int(seed[0])


def below(draws: np.ndarray, number: int) -> np.ndarray:
    """0 to number - 1, by the upper 32 bits of each draw."""
    return ((draws >> np.uint64(32)) * np.uint64(number)) >> np.uint64(32)


def keep_limits(counts: np.ndarray, subsample: float) -> np.ndarray:
    """(words,) uint32: an occurrence of a word is kept when 32 random bits are at most this.

    Of the word with the share f of all words, a share of 1 - sqrt(subsample / f) is left out (Mikolov et al. 2013b,
    equation 5).
    """
    if not subsample:
        return np.full(len(counts), _ONE - 1, np.uint32)
    return _limits(np.sqrt(subsample * counts.sum() / counts))


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """Draws words by their counts to a power (Mikolov et al. 2013b, section 2.2), with Walker's alias method (1977).

    Each word has a column of the same probability, which it shares with at most one other: a word that is rarer than
    the average gives the rest of its column to one that is more frequent.

    limits  (words,) uint32: a column stands for its own word up to this, for the other one above
    others  (words,) int32
    """

    limits: np.ndarray
    others: np.ndarray

    def draw(self, draws: np.ndarray) -> np.ndarray:
        """(n,) int32 words: the upper half of a draw is the column, the lower half says which of its two words."""
        columns = below(draws, len(self.limits)).astype(np.int32)
        own = (draws & np.uint64(_ONE - 1)) <= self.limits[columns]
        return np.where(own, columns, self.others[columns])


def noise(counts: np.ndarray, power: float) -> Noise:
    heights = counts.astype(np.float64) ** power
    heights *= len(counts) / heights.sum()  # 1 is the height of a column
    left, others = heights.tolist(), list(range(len(counts)))
    low = [word for word, height in enumerate(left) if height < 1]
    high = [word for word, height in enumerate(left) if height >= 1]
    filled = [1.0] * len(left)
    while low and high:
        small, large = low.pop(), high[-1]
        filled[small], others[small] = left[small], large
        left[large] -= 1 - left[small]
        if left[large] < 1:
            low.append(high.pop())
    return Noise(_limits(np.array(filled)), np.array(others, np.int32))


def _limits(probabilities: np.ndarray) -> np.ndarray:
    """(n,) uint32: 32 random bits are at most this with these probabilities, where 1 and more is certain."""
    return np.clip(np.ceil(probabilities * _ONE) - 1, 0, _ONE - 1).astype(np.uint32)
