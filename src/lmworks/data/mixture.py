"""How many sequences of a run come from which source, and which one is the k-th.

The quotas are settled before the run: shares from weights, or from sizes by p ∝ n^(1/T) (Xue et al. 2021, mT5, section
3.2, with α = 1/T), capped by epochs. The order in which they are drawn is arithmetic, so that nothing has to be
replayed. A run that continues for longer keeps the quotas it was planned with to their end, and has its own for the
rest.
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
    """The order in which sources are drawn from, given the quota of each; after all draws each has given it exactly.

    The sources are the leaves of a Huffman tree. A node that stands for a and b sequences below its two branches sends
    its first m draws so that round(m·a / (a + b)) of them go to the first branch. So a draw is a division a level, and
    after k of N a source of quota q has given q·k/N to within ½·Σ q/a over the nodes a from the leaf up to, not
    including, the root: less than 1.7 sequences, and less than one for up to three sources.

    quotas  sequences of each source
    total   all of them, N; ValueError for 2^31 and more
    """

    def __init__(self, quotas: Sequence[int]) -> None:
        self.quotas = tuple(quotas)
        self.total = sum(quotas)
        if self.total > LARGEST:
            raise ValueError(f"a run has at most {LARGEST:,} sequences, got {self.total:,}: ask for fewer steps")
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
        """For draws k (n,), from 0 to N - 1: (the source of each, how many earlier draws that source has had)."""
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

    `sizes` are the sequences of an epoch of each source; `horizons` those of a saved run, if this one continues from
    it.

    horizons  sequences up to which the run was planned each time: one more when it is extended
    steps     of the run, the last of which may be smaller, as may the last before a horizon
    quotas    sequences that these draw from each source

    ValueError for caps that allow fewer sequences than the run asks for.
    """

    def __init__(self, config: LoaderConfig, sizes: Sequence[int], horizons: Sequence[int] = ()) -> None:
        self.batch = config.batch
        sources = list(config.sources.values())
        weights = [Fraction(source.weight) for source in sources if source.weight is not None]
        self._weights = weights or temperature_weights(sizes, config.temperature)
        self._caps = [  # epochs as they are written: 0.29 of 100 sequences are 29
            None if source.max_epochs is None else math.floor(Fraction(repr(source.max_epochs)) * size)
            for source, size in zip(sources, sizes, strict=True)
        ]
        self._parts: list[_Part] = []
        self.horizons = tuple(horizons) or (sum(sizes) if config.steps is None else config.steps * config.batch,)
        for begin, end in pairwise((0, *self.horizons)):
            self._append(end - begin)
        planned = self._parts[-1].stop
        self.steps = planned if config.steps is None else config.steps
        if self.steps > planned:
            self._append((self.steps - planned) * config.batch)
            self.horizons = (*self.horizons, self.horizons[-1] + self._parts[-1].mixture.total)
        self.quotas = tuple(self.drawn(self.steps))

    @property
    def smallest(self) -> int:
        """Sequences of the smallest step."""
        return min(self.rows(min(part.stop, self.steps) - 1) for part in self._parts if part.first < self.steps)

    def rows(self, step: int) -> int:
        """Sequences of a step; IndexError for one outside the run."""
        part = self._part(step)
        return min(self.batch, part.mixture.total - (step - part.first) * self.batch)

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
