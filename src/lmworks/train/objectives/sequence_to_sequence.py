"""Texts that an encoder–decoder reads damaged and writes down again: what T5's and BART's objectives share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmworks.data.batches import Batch
from lmworks.model.transformer import Transformer
from lmworks.train.objectives.objective import TokenPrediction, generator_of, pieces_of

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Rewritings:
    """ids             (texts, source length) int64, what the encoder reads; 0 at padding
    attention_mask  (texts, source length) bool, True = no padding
    decoder_ids     (texts, target length) int64, the targets one place later, behind the token that begins
    targets         (texts, target length) int64, what is to be written
    mask            (texts, target length) bool, True = no padding
    """

    ids: Tensor
    attention_mask: Tensor
    decoder_ids: Tensor
    targets: Tensor
    mask: Tensor


def texts_of(batch: Batch, seed: int, apart: bool, frame: Sequence[int]) -> Iterator[tuple[Ids, np.random.Generator]]:
    """The texts of a batch, (n,) each, with the random numbers that belong to it, row by row: the pieces of documents,
    or without `apart` whole rows.

    A token of `frame` at the beginning or the end is left out: the objective frames a text itself.
    """
    for row, piece, key in pieces_of(batch, apart):
        ids = batch.ids[row, piece].numpy()
        begins, ends = int(ids[0] in frame), int(ids[-1] in frame)
        yield ids[begins : max(len(ids) - ends, begins)], generator_of(seed, *key)


def rewritings(pairs: Sequence[tuple[Ids, Ids]], start: int) -> Rewritings:
    """Sources and their targets as one batch, padded on the right to the longest of each. Nothing is cut."""
    sources, read = padded([source for source, _ in pairs])
    targets, written = padded([target for _, target in pairs])
    decoder_ids = torch.cat([targets.new_full((len(targets), 1), start), targets[:, :-1]], dim=1)
    return Rewritings(sources, read, decoder_ids.where(written, 0), targets, written)


def padded(rows: Sequence[NDArray[Any]]) -> tuple[Tensor, Tensor]:
    """Rows as one tensor (rows, longest) int64, 0 at padding, and which of its places are no padding, bool."""
    lengths = np.array([len(row) for row in rows], np.int64)
    real = np.arange(max(lengths, default=1)) < lengths[:, None]
    ids = np.zeros(real.shape, np.int64)
    ids[real] = np.concatenate(rows) if rows else 0
    return torch.from_numpy(ids), torch.from_numpy(real)


class Rewriting(TokenPrediction[Rewritings]):
    """An objective that has texts written: cross-entropy of each token of the target."""

    __slots__ = ()
    reads_hidden_states: ClassVar[bool] = False  # of one stack
    predicted: ClassVar[str] = "rewritten"

    def hidden(self, model: Transformer, examples: Rewritings) -> Tensor:
        """TypeError for a model without encoder or decoder; ValueError for a text beyond its context length."""
        if model.encoder is None or model.decoder is None:
            raise TypeError(
                "this objective has a text read and another written: it needs both stacks, as presets.t5 has"
            )
        longest = max(examples.ids.shape[1], examples.targets.shape[1])
        if longest > model.config.context_length:
            raise ValueError(
                f"an example is {longest} tokens long, the model reads and writes {model.config.context_length}: "
                "give the loader a smaller length"
            )
        return model.hidden(examples.ids, examples.decoder_ids, attention_mask=examples.attention_mask)
