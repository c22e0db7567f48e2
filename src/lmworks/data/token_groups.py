"""Token sequences that belong together: the texts of a pair, the completions of one prompt."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class GroupBatch:
    """Some groups, padded to the most sequences and to the longest one. A slice of it holds whole groups.

    ids              (groups, size, length) int64, 0 at padding
    attention_mask   (groups, size, length) bool: no padding; nothing of it is set where a group has fewer sequences
    completion_mask  (groups, size, length) bool: the tokens to be learned, each as what follows those before it
    columns          name → (groups, size) float32, 0 where a group has fewer sequences
    """

    ids: Tensor
    attention_mask: Tensor
    completion_mask: Tensor
    columns: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> Tensor:
        """(groups, size) int64: tokens of each sequence; 0 where a group has fewer sequences."""
        return self.attention_mask.sum(-1)

    @property
    def tokens(self) -> int:
        """Places that are no padding."""
        return int(self.attention_mask.sum())


@dataclass(frozen=True, slots=True, eq=False)
class TokenGroup:
    """Sequences that stay together, such as the completions of one prompt, each with the prompt before it.

    ids      of each sequence
    learned  of each sequence, which of its ids are to be learned; None: all
    columns  name → a number for each sequence, such as its reward or its log-probability under a reference model
    """

    ids: Sequence[Sequence[int] | NDArray[np.int32]]
    learned: Sequence[Sequence[bool]] | None = None
    columns: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class TokenGroups:
    """Groups in order. `dataclasses.replace(groups, columns=...)` adds numbers that were computed from their tokens.

    tokens   (tokens,) int32: the ids of all sequences, one behind the other
    ends     (sequences,) int64: where each of them ends
    first    (groups + 1,) int64: the number of each group's first sequence
    learned  (tokens,) bool: which are to be learned; None: all
    columns  name → (sequences,) numbers
    cut      how many sequences lost their end when they were made

    ValueError for masks and columns that have another number of values than there are tokens and sequences.
    """

    tokens: NDArray[np.int32]
    ends: NDArray[np.int64]
    first: NDArray[np.int64]
    learned: NDArray[np.bool_] | None = None
    columns: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    cut: int = 0

    def __post_init__(self) -> None:
        columns = {name: np.asarray(values, np.float32) for name, values in self.columns.items()}
        if self.learned is not None and self.learned.shape != self.tokens.shape:
            raise ValueError(f"{len(self.learned)} tokens of {len(self.tokens)} say whether they are to be learned")
        for name, values in columns.items():
            if values.shape != self.ends.shape:
                raise ValueError(f"the column {name} has the shape {values.shape} for {len(self.ends)} sequences")
        object.__setattr__(self, "columns", columns)

    def __len__(self) -> int:
        return len(self.first) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(sequences,): tokens of each."""
        return np.diff(self.ends, prepend=0)

    @property
    def digest(self) -> str:
        """SHA-256 of all that a batch shows."""
        parts = [self.tokens, self.ends, self.first, *([] if self.learned is None else [self.learned])]
        hashed = hashlib.sha256(b"".join(part.tobytes() for part in parts))
        for name, values in sorted(self.columns.items()):
            hashed.update(name.encode() + values.tobytes())
        return hashed.hexdigest()

    def batches(self, size: int) -> list[GroupBatch]:
        """All groups in order, `size` at a time."""
        return [self.batch(each) for each in np.split(np.arange(len(self)), range(size, len(self), size))]

    def batch(self, numbers: Sequence[int] | NDArray[np.int64]) -> GroupBatch:
        """The groups of these numbers."""
        chosen = np.asarray(numbers, np.int64)
        sizes = self.first[chosen + 1] - self.first[chosen]
        places = np.arange(sizes.max())
        present = places < sizes[:, None]  # (groups, size)
        sequences = (self.first[chosen][:, None] + places)[present]
        lengths = self.lengths[sequences]
        along = np.arange(lengths.max())
        real = along < lengths[:, None]  # (sequences, length)
        tokens = ((self.ends[sequences] - lengths)[:, None] + along)[real]
        mask = np.zeros((*present.shape, len(along)), bool)
        mask[present] = real
        ids, learned = np.zeros(mask.shape, np.int64), mask.copy()
        ids[mask] = self.tokens[tokens]
        if self.learned is not None:
            learned[mask] = self.learned[tokens]
        columns = {name: np.zeros(present.shape, np.float32) for name in self.columns}
        for name, values in columns.items():
            values[present] = self.columns[name][sequences]
        numbers_of = {name: torch.from_numpy(values) for name, values in columns.items()}
        return GroupBatch(torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(learned), numbers_of)


def join_groups(groups: Iterable[TokenGroup], cut: int = 0) -> TokenGroups:
    """The groups in this order. All have the same columns, and all or none say what is to be learned.

    ValueError for no group, and for one without a sequence or with an empty one.
    """
    given = list(groups)
    rows = [np.asarray(row, np.int32) for group in given for row in group.ids]
    sizes = [len(group.ids) for group in given]
    if not rows or not all(sizes) or not all(map(len, rows)):
        raise ValueError("there are no groups, or one has no sequence, or an empty one")
    learned = [np.asarray(row, bool) for group in given for row in group.learned or ()]
    columns = {
        name: np.array([value for group in given for value in group.columns[name]], np.float32)
        for name in given[0].columns
    }
    ends = np.cumsum([len(row) for row in rows])
    masks = np.concatenate(learned) if learned else None
    return TokenGroups(np.concatenate(rows), ends, np.cumsum([0, *sizes]), masks, columns, cut)
