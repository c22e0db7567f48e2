"""Rows of hashes, of unequal lengths, in one array: the words of texts, or their shingles."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class HashRows:
    """values  (n,) uint64, one row after the other
    ends    (rows,) int64, one past the last value of each row
    """

    values: NDArray[np.uint64]
    ends: NDArray[np.int64]

    def __post_init__(self) -> None:  # the compiled part reads them as they lie in memory
        object.__setattr__(self, "values", np.ascontiguousarray(self.values, np.uint64))
        object.__setattr__(self, "ends", np.ascontiguousarray(self.ends, np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, row: int) -> NDArray[np.uint64]:
        end = self.ends[row]  # IndexError for a row that there is not
        return self.values[self.ends[row - 1] if row else 0 : end]

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.ends, prepend=0)

    @property
    def starts(self) -> NDArray[np.int64]:
        return self.ends - self.lengths


def positions(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """All positions of ranges, given by their starts and lengths, one range after the other."""
    first = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - first, lengths)
