"""Prefix language modelling (Raffel et al. 2020, section 3.2.1): the rest of a text from a beginning that is read both
ways."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from lmworks.data.batches import Batch
from lmworks.model import masks
from lmworks.model.transformer import Transformer
from lmworks.train.objectives.objective import TokenPrediction, generator_of, pieces_of


@dataclass(frozen=True, slots=True, eq=False)
class PrefixedTokens:
    """A batch with `prefix` (batch, length) bool, the tokens that all of their piece may see; `documents` int64, equal
    within a piece and -1 at padding; `mask` without what the prefix gives away; the rest as in `Batch`."""

    ids: Tensor
    positions: Tensor
    documents: Tensor
    prefix: Tensor
    targets: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True)
class PrefixLanguageModel(TokenPrediction[PrefixedTokens]):
    """The first p of n tokens see each other, all later ones the past; the loss is on the later ones.

    prefix  `drawn`: p is one of 1 to n - 1, each as likely (section 3.2.3: a text is cut at a random place);
            `prompt`: what comes before the first token that the data asks for, in supervised fine-tuning
    apart   whether each document of a row is a text of its own; without, the row is one
    """

    splits_sequences: ClassVar[bool] = True
    predicted: ClassVar[str] = "next_token"
    prefix: Literal["drawn", "prompt"] = "drawn"
    apart: bool = True
    label_smoothing: float = 0.0
    z_loss: float = 0.0

    def examples(self, batch: Batch, seed: int) -> PrefixedTokens:
        shape = batch.ids.shape
        prefix, pieces, mask = np.zeros(shape, bool), np.full(shape, -1), batch.mask.numpy().copy()
        for row, piece, key in pieces_of(batch, self.apart):
            length, asked = piece.stop - piece.start, mask[row, piece]
            if self.prefix == "drawn":
                seen = int(generator_of(seed, *key).integers(1, max(length, 2)))
            else:  # the token before the first that is asked for is the prompt's last
                seen = int(asked.argmax()) + 1 if asked.any() else length
            pieces[row, piece] = key[-1]
            prefix[row, piece.start : piece.start + seen] = True
            mask[row, piece.start : piece.start + seen - 1] = False
        numbers, seen_by_all, asked_for = (torch.from_numpy(array) for array in (pieces, prefix, mask))
        return PrefixedTokens(batch.ids, batch.positions, numbers, seen_by_all, batch.targets, asked_for)

    def hidden(self, model: Transformer, examples: PrefixedTokens) -> Tensor:
        """TypeError for a model that is no decoder: an encoder would see the targets."""
        if model.decoder is None or model.encoder is not None:
            raise TypeError("a prefix language model is a decoder, such as presets.llama")
        rule = masks.prefixes(examples.documents, examples.prefix)
        return model.hidden(examples.ids, positions=examples.positions, rule=rule)
