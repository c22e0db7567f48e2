"""Rows of token ids for a model: what the plan says stands where, with positions, documents, targets and their mask."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmworks.data.best_fit_packing import Plan
from lmworks.data.token_dataset import TokenDataset

PADDING = -1  # in `Batch.documents`


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Sequences of a step, on the CPU until `to`. With a document mask a decoder takes them as

        rule = masks.documents(batch.documents, causal=True)
        logits = model(batch.ids, positions=batch.positions, rule=rule)

    and gives each document what it gives it alone; without one as `model(batch.ids)`.

    ids        (batch, length) int64; 0 at padding
    positions  (batch, length) int64, afresh in each document and at padding (without a document mask: in each sequence)
    documents  (batch, length) int64: the document's number in its token dataset; -1 at padding
    targets    (batch, length) int64: the token that comes next, also where the document continues in another sequence;
               0 where none does
    mask       (batch, length) bool: whether that target exists and is to be learned
    sources    (batch,) int64: which of the loader's sources each sequence is from
    sequences  (batch,) int64: and which sequence of that source's plan it is
    """

    ids: Tensor
    positions: Tensor
    documents: Tensor
    targets: Tensor
    mask: Tensor
    sources: Tensor
    sequences: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tokens(self) -> int:
        """Places that are no padding."""
        return int((self.documents != PADDING).sum())

    def __getitem__(self, rows: slice) -> "Batch":
        """Some of the rows, such as a micro-batch."""
        return Batch(*(getattr(self, field.name)[rows] for field in fields(self)))

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on a device."""
        return Batch(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


def make_batch(
    datasets: Sequence[TokenDataset],
    plans: Sequence[Plan],
    sources: NDArray[np.int64],
    sequences: NDArray[np.int64],
    document_mask: bool = True,
) -> Batch:
    """The sequences (sources[i], sequences[i]), in this order; `plans[s]` is of `datasets[s]`, all of one length."""
    length = plans[0].length
    pieces = _pieces(datasets, plans, sources, sequences, document_mask)
    padding, last = pieces.documents == PADDING, pieces.places + pieces.lengths - 1
    documents = np.repeat(pieces.documents, pieces.lengths)
    firsts = pieces.places if document_mask else np.where(padding, pieces.places, pieces.places // length * length)
    positions = np.arange(len(documents)) - np.repeat(firsts, pieces.lengths)
    ids, targets, mask = np.zeros_like(documents), np.zeros_like(documents), documents != PADDING
    for source in np.unique(sources).tolist():
        datasets[source].copy(ids, pieces.places, pieces.starts, pieces.lengths * (pieces.sources == source))
    # The target of a place is the token of the next one; of a piece's last place, the token that follows the piece.
    targets[:-1] = ids[1:]
    targets[last] = 0
    mask[last] = pieces.follows
    for source in np.unique(sources).tolist():
        follows = pieces.follows & (pieces.sources == source)
        datasets[source].copy(targets, last, pieces.starts + pieces.lengths, follows.astype(np.int64))
        # A target is learned where the mask of its own document says so.
        for piece in np.flatnonzero(pieces.sources == source).tolist() if datasets[source].masked else ():
            place, first = int(pieces.places[piece]), int(pieces.starts[piece]) + 1
            if count := int(pieces.lengths[piece]) - (not pieces.follows[piece]):
                mask[place : place + count] = datasets[source].mask(first, first + count)
    rows = (array.reshape(-1, length) for array in (ids, positions, documents, targets, mask))
    return Batch(*(torch.from_numpy(np.ascontiguousarray(array)) for array in (*rows, sources, sequences)))


class _Pieces(NamedTuple):
    """The segments of some rows, and the padding behind them, in the order of their places; all (pieces,)."""

    places: NDArray[np.int64]  # where each begins, the rows being laid one behind the other
    lengths: NDArray[np.int64]  # in tokens
    sources: NDArray[np.int64]  # which source it is from; -1 for padding
    documents: NDArray[np.int64]  # of that source; -1 for padding
    starts: NDArray[np.int64]  # its first token in the source's dataset
    follows: NDArray[np.bool_]  # whether a token comes after its last: of its document, or without a document mask any


def _pieces(
    datasets: Sequence[TokenDataset],
    plans: Sequence[Plan],
    sources: NDArray[np.int64],
    sequences: NDArray[np.int64],
    document_mask: bool,
) -> _Pieces:
    found = []  # (row, length, source, document, start, whether a token follows) of the pieces of each source
    free = np.full(len(sources), plans[0].length)  # in each row
    for source in np.unique(sources).tolist():
        dataset, plan, rows = datasets[source], plans[source], np.flatnonzero(sources == source)
        firsts = plan.offsets[sequences[rows]]
        counts = plan.offsets[sequences[rows] + 1] - firsts
        segments = np.arange(counts.sum()) + np.repeat(firsts - (np.cumsum(counts) - counts), counts)
        documents, lengths = plan.documents[segments], plan.lengths[segments]
        starts = dataset.offsets[documents] + plan.starts[segments]
        limits = dataset.offsets[documents + 1] if document_mask else dataset.tokens
        free[rows] -= np.add.reduceat(lengths, np.cumsum(counts) - counts)
        owner = np.full(len(segments), source)
        found.append((np.repeat(rows, counts), lengths, owner, documents, starts, starts + lengths < limits))
    padded = np.flatnonzero(free)
    none = np.full(len(padded), PADDING)
    found.append((padded, free[padded], none, none, none, np.zeros(len(padded), bool)))
    row, lengths, *others = (np.concatenate(field) for field in zip(*found, strict=True))
    order = np.argsort(row, kind="stable")  # padding comes last in its row
    lengths = lengths[order]
    return _Pieces(np.cumsum(lengths) - lengths, lengths, *(field[order] for field in others))
