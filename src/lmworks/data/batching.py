"""Rows of token ids for a model: what the plan says stands where, with positions, documents, targets and their mask."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmworks.data.packing import Plan
from lmworks.data.token_dataset import TokenDataset

PADDING = -1  # in `Batch.documents`


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Sequences of a step, on the CPU until `to`. With a document mask a decoder takes them as

        rule = masks.both(masks.causal, masks.documents(batch.documents))
        logits = model(batch.ids, positions=batch.positions, rule=rule)

    and gives each document what it gives it alone; without one as `model(batch.ids)`.

    ids        (batch, length) int64; 0 at padding
    positions  (batch, length) int64, afresh in each document and at padding (without a document mask: in each sequence)
    documents  (batch, length) int64: the document's number in its token dataset; -1 at padding
    targets    (batch, length) int64: the token that comes next, also where the document goes on in another sequence;
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

    def __getitem__(self, rows: slice) -> "Batch":
        """Some of the rows, such as a micro-batch."""
        return Batch(*(getattr(self, field.name)[rows] for field in fields(self)))

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on a device."""
        return Batch(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


def make_batch(
    datasets: list[TokenDataset],
    plans: list[Plan],
    sources: NDArray[np.int64],
    sequences: NDArray[np.int64],
    document_mask: bool = True,
) -> Batch:
    """The sequences (sources[i], sequences[i]), in this order; `plans[s]` is of `datasets[s]`, all of one length."""
    shape = len(sources), plans[0].length
    ids, positions, targets = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    documents, mask = np.full(shape, PADDING), np.zeros(shape, bool)
    for row, (source, sequence) in enumerate(zip(sources.tolist(), sequences.tolist(), strict=True)):
        dataset, plan = datasets[source], plans[source]
        segments = slice(plan.offsets[sequence], plan.offsets[sequence + 1])
        owners, lengths = plan.documents[segments], plan.lengths[segments]
        starts = dataset.offsets[owners] + plan.starts[segments]  # in the dataset
        limits = dataset.offsets[owners + 1]
        used = int(lengths.sum())
        documents[row, :used] = np.repeat(owners, lengths)
        if not document_mask:  # the segments follow one another in the stream: one long one
            starts, lengths, limits = starts[:1], np.array([used]), np.array([dataset.tokens])
        places = np.cumsum(lengths) - lengths  # in the row
        positions[row, :used] = np.arange(used) - np.repeat(places, lengths)
        positions[row, used:] = np.arange(plan.length - used)
        for place, start, length, limit in zip(
            places.tolist(), starts.tolist(), lengths.tolist(), limits.tolist(), strict=True
        ):
            stop = min(start + length + 1, limit)  # with the token that the last one predicts, if there is one
            text = dataset.read(start, stop)
            last = place + stop - start - 1
            ids[row, place : place + length] = text[:length]
            targets[row, place:last] = text[1:]
            mask[row, place:last] = dataset.mask(start + 1, stop) if dataset.masked and stop > start + 1 else True
    arrays = (ids, positions, documents, targets, mask, sources, sequences)
    return Batch(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))
