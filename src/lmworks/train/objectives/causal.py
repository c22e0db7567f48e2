"""Causal language modelling (Radford et al. 2018): each token from those before it."""

from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lmworks.data.batches import Batch
from lmworks.kernels.training_kernels import KeyRanges
from lmworks.model import masks
from lmworks.model.transformer import Transformer
from lmworks.train.objectives.objective import TokenPrediction, generator_of, pieces_of


@dataclass(frozen=True, slots=True)
class CausalLanguageModel(TokenPrediction[Batch]):
    """The next token at every position that the data asks about: all of them in pre-training, the assistant's in
    supervised fine-tuning, whose data says so in its mask.

    apart            Whether documents of a row see only themselves; as the loader's `document_mask`.
    neftune          α of the noise on embeddings (`embedding_noise`), wherever there are gradients: not in validation.
    """

    splits_sequences: ClassVar[bool] = True
    predicted: ClassVar[str] = "next_token"
    apart: bool = True
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    neftune: float | None = field(default=None, repr=False)  # no part of what a validation measured

    def examples(self, batch: Batch, seed: int) -> Batch:
        if self.neftune is None:
            return batch
        values = {column.name: getattr(batch, column.name) for column in fields(batch)}
        return NoisyBatch(**values, visits=torch.full_like(batch.sources, seed))

    def hidden(self, model: Transformer, examples: Batch) -> Tensor:
        rule = document_rule(examples) if self.apart else None
        noisy = nullcontext()
        if self.neftune is not None and isinstance(examples, NoisyBatch) and torch.is_grad_enabled():
            noise, table = embedding_noise(examples, model.tokens.shape[1], self.neftune), model.embedding.tokens
            assert table is not None
            noisy = table.register_forward_hook(lambda _, __, vectors: vectors + noise.to(vectors))
        with noisy:
            return model.hidden(examples.ids, positions=examples.positions, rule=rule)


def document_rule(batch: Batch) -> KeyRanges | None:
    """The rule that a token sees those before it in its document; None where no row holds more than one, as then causal
    attention does; padding, which stands last, is none."""
    several = (batch.documents != batch.documents[:, :1]) & (batch.documents >= 0)
    return masks.documents(batch.documents, causal=True) if bool(several.any()) else None


@dataclass(frozen=True, slots=True, eq=False)
class NoisyBatch(Batch):
    """A batch with `visits` (batch,) int64, the seed of what is drawn for each row."""

    visits: Tensor


def embedding_noise(batch: NoisyBatch, width: int, alpha: float) -> Tensor:
    """NEFTune (Jain et al. 2023, Algorithm 1): uniform within ±alpha / √(L · width), (batch, length, width) float32, 0
    at padding.

    L is the length of each document's part of a row. What is drawn belongs to the document, whatever stands next to it.
    """
    noise = np.zeros((*batch.ids.shape, width), np.float32)
    for row, piece, (source, *_) in pieces_of(batch):
        generator = generator_of(int(batch.visits[row]), source, int(batch.documents[row, piece.start]))
        drawn = generator.uniform(-1, 1, noise[row, piece].shape)
        noise[row, piece] = drawn * alpha / drawn.size**0.5
    return torch.from_numpy(noise)
