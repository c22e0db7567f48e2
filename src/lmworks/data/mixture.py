"""How many sequences of a run come from which source, and which one is the k-th.

The quotas are settled before the run: shares from weights, or from sizes by p ∝ n^(1/T) (Xue et al. 2021, mT5, section
3.2, with α = 1/T), capped by epochs. The order in which they are drawn is arithmetic: nothing is drawn at random,
nothing has to be replayed, and at every moment of the run each source has had its share to within 1.7 sequences.

Quotas belong to a number of sequences. A run that is to go on for longer keeps those it was planned with to their end,
so that what is left of them comes as it would have come, and has quotas of its own for the rest.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lmworks.corpus.balance.quotas import quotas, temperature_weights
from lmworks.data.config import LARGEST, LoaderConfig


class Mixture:
    """The order in which sources are drawn from, given the quota of each.

    The sources are the leaves of a binary tree. A node that stands for a and b sequences below its two branches sends
    its first m draws so that round(m·a / (a + b)) of them go to the first branch. Which leaf draw k reaches, and how
    often that leaf was reached before, is thus a division a level of the tree. After the whole run each source has
    given its quota exactly.

    After k draws of N, a source of quota q has given q·k/N to within half a sequence at each branching, of which a leaf
    inherits its part of the branch: ½·Σ q/a over the nodes a from the leaf up to, not including, the root. The tree is
    Huffman's, in which the sums grow upwards like Fibonacci's numbers, so that this is below ½·(1 + 1 + 1/2 + 1/3 + 1/5
    + 1/8 + …) < 1.7 for any number of sources with any quotas, and below one for up to three. Tijdeman (1980, "The
    chairman assignment problem", Discrete Mathematics 32) has an order below one for any number; but what it draws next
    depends on all that it drew, so that a step in the middle of a run would cost as much as the run before it.

    quotas  sequences of each source
    total   all of them, N

    ValueError for quotas that are negative, sum to nothing, or to 2^31 sequences and more.
    """

    def __init__(self, quotas: Sequence[int]) -> None:
        if min(quotas) < 0 or not 0 < sum(quotas) <= LARGEST:
            raise ValueError(f"quotas must not be negative and sum to 1 to 2^31 - 1 sequences, got {list(quotas)}")
        self.quotas = tuple(quotas)
        self.total = sum(quotas)
        weights = list(quotas)  # of each node: the leaves are the sources, in their order
        branches = [(0, 0)] * len(quotas)
        heap = [(quota, source) for source, quota in enumerate(quotas)]
        heapq.heapify(heap)
        while len(heap) > 1:
            (a, first), (b, second) = heapq.heappop(heap), heapq.heappop(heap)
            heapq.heappush(heap, (a + b, len(weights)))
            weights.append(a + b)
            branches.append((first, second))
        self._weights = np.array(weights, np.int64)
        self._branches = np.array(branches, np.int64)

    def draw(self, draws: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For draws k (n,), counted from 0: (the source of each, how many earlier draws that source has had).

        IndexError for a draw after the run.
        """
        if len(draws) and not 0 <= draws.min() <= draws.max() < self.total:
            raise IndexError(f"the run has {self.total:,} sequences")
        node, index = np.full(len(draws), len(self._weights) - 1), draws.copy()
        while (inner := np.flatnonzero(node >= len(self.quotas))).size:
            at, m = node[inner], index[inner]
            before = self._sent_first(at, m)
            first = self._sent_first(at, m + 1) > before
            node[inner] = self._branches[at, np.where(first, 0, 1)]
            index[inner] = np.where(first, before, m - before)
        return node, index

    def drawn(self, draws: int) -> list[int]:
        """How many of the first `draws` draws each source has had."""
        counts = np.zeros(len(self._weights), np.int64)
        counts[-1] = draws
        for node in range(len(self._weights) - 1, len(self.quotas) - 1, -1):
            first, second = self._branches[node]
            counts[first] = self._sent_first(np.array([node]), counts[node : node + 1])[0]
            counts[second] = counts[node] - counts[first]
        return counts[: len(self.quotas)].tolist()

    def _sent_first(self, nodes: NDArray[np.int64], m: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many of the first m draws of a node go to its first branch: m·a / (a + b), half rounded up."""
        whole, a = np.maximum(self._weights[nodes], 1), self._weights[self._branches[nodes, 0]]
        return (2 * m * a + whole) // (2 * whole)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Steps `first` to `stop` - 1, which draw by one mixture; `given` is what each source gave before."""

    first: int
    stop: int
    given: NDArray[np.int64]
    mixture: Mixture


class DrawPlan:
    """Steps → sources and the sequences drawn from them, each counted from the first of its source.

    `sizes` are the sequences of an epoch of each source; `horizons` those of a saved run, if this one goes on from it.

    horizons  sequences up to which the run was planned each time: one more when it is extended
    steps     of the run, the last of which may be smaller, as may the last before a horizon
    quotas    sequences that these draw from each source

    ValueError for caps that allow fewer sequences than the run asks for, and for a saved run that was planned for
    other steps when `config.steps` does not say how many are wanted now.
    """

    def __init__(self, config: LoaderConfig, sizes: Sequence[int], horizons: Sequence[int] = ()) -> None:
        self.batch = config.batch
        sources = list(config.sources.values())
        weights = [Fraction(source.weight) for source in sources if source.weight is not None]
        self._weights = weights or temperature_weights(sizes, config.temperature)
        self._caps = [
            None if source.max_epochs is None else _floor_of_product(source.max_epochs, size)
            for source, size in zip(sources, sizes, strict=True)
        ]
        self._parts: list[_Part] = []
        wanted = sum(sizes) if config.steps is None else config.steps * config.batch
        for begin, end in pairwise((0, *(horizons or [wanted]))):
            self._append(end - begin)
        planned = self._parts[-1].stop
        if config.steps is None and horizons and tuple(horizons) != (wanted,):
            raise ValueError(f"the saved run was planned for {planned:,} steps: set steps, to these or to others")
        self.steps = planned if config.steps is None else config.steps
        self.horizons = tuple(horizons) or (wanted,)
        if self.steps > planned:
            try:
                self._append((self.steps - planned) * config.batch)
            except ValueError as error:
                raise ValueError(
                    f"the saved run of {planned:,} steps cannot go on to {self.steps:,} with its max_epochs: ask for "
                    f"fewer steps, or begin a new stream without its state ({error})"
                ) from error
            self.horizons = (*self.horizons, self.horizons[-1] + self._parts[-1].mixture.total)
        self.quotas = tuple(self.drawn(self.steps))

    def rows(self, step: int) -> int:
        """Sequences of a step; IndexError for one outside the run."""
        part = self._part(step)
        return min(self.batch, part.mixture.total - (step - part.first) * self.batch)

    @property
    def small_steps(self) -> list[int]:
        """The steps that have fewer sequences than a batch."""
        return [s for part in self._parts if (s := part.stop - 1) < self.steps and self.rows(s) < self.batch]

    def draw(self, step: int, lower: int, upper: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For rows lower to upper - 1 of a step: (the source of each, how many sequences that source gave before)."""
        part = self._part(step)
        first = (step - part.first) * self.batch
        sources, index = part.mixture.draw(np.arange(first + lower, first + upper))
        return sources, index + part.given[sources]

    def drawn(self, step: int) -> list[int]:
        """How many sequences each source gave in the steps before this one."""
        part = next(part for part in self._parts if step <= part.stop)
        sequences = min((step - part.first) * self.batch, part.mixture.total)
        return (part.given + part.mixture.drawn(sequences)).tolist()

    def _part(self, step: int) -> _Part:
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of a run of {self.steps}")
        return next(part for part in self._parts if step < part.stop)

    def _append(self, sequences: int) -> None:
        first = self._parts[-1].stop if self._parts else 0
        given = np.array(self.drawn(first) if self._parts else [0] * len(self._caps), np.int64)
        caps = [None if cap is None else cap - had for cap, had in zip(self._caps, given.tolist(), strict=True)]
        mixture = Mixture(quotas(self._weights, caps, sequences))
        self._parts.append(_Part(first, first - (-sequences // self.batch), given, mixture))


def _floor_of_product(epochs: float, size: int) -> int:
    """`epochs` as it is written, so that 0.29 epochs of 100 sequences are 29."""
    return math.floor(Fraction(repr(epochs)) * size)
