"""Which sequences the steps of a run draw: planned to a horizon, and on from there when the run is extended.

Quotas belong to a number of sequences. A run that is to go on for longer keeps those it was planned with to their end,
so that what is left of them comes as it would have come, and has quotas of its own for the rest.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lmworks.data.config import LoaderConfig
from lmworks.data.mixing import Mixture, quotas, temperature_weights


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
    bounds    for each source, the largest distance from its share at any moment, in sequences

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
        self.bounds = [max(bounds) for bounds in zip(*(part.mixture.bounds for part in self._parts), strict=True)]

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
