"""Causal language modelling (Radford et al. 2018): each token from those before it."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from lmworks.data.batches import Batch
from lmworks.model import masks
from lmworks.model.transformer import Transformer
from lmworks.train.losses import Loss
from lmworks.train.objectives.neftune import NoisyBatch, embedding_noise
from lmworks.train.objectives.objective import OnHiddenStates, predict_tokens


@dataclass(frozen=True, slots=True)
class CausalLanguageModel(OnHiddenStates[Batch]):
    """The next token at every position that the data asks about: all of them in pre-training, the assistant's in
    supervised fine-tuning, whose data says so in its mask.

    apart            Whether documents of a row see only themselves; as the loader's `document_mask`.
    label_smoothing  and `z_loss` as in `losses.cross_entropy`.
    neftune          α of the noise on embeddings (`neftune.py`), wherever there are gradients: not in validation.
    """

    splits_sequences: ClassVar[bool] = True
    apart: bool = True
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    neftune: float | None = field(default=None, repr=False)  # no part of what a validation measured

    def examples(self, batch: Batch, seed: int) -> Batch:
        return batch if self.neftune is None else NoisyBatch.of(batch, seed)

    def counts(self, examples: Batch) -> Mapping[str, int]:
        return {"next_token": int(examples.mask.sum())}

    def hidden(self, model: Transformer, examples: Batch) -> Tensor:
        rule = None
        if self.apart and several_documents(examples):
            rule = masks.both(masks.causal, masks.documents(examples.documents))
        noisy = nullcontext()
        if self.neftune is not None and isinstance(examples, NoisyBatch) and torch.is_grad_enabled():
            noise, table = embedding_noise(examples, model.tokens.shape[1], self.neftune), model.embedding.tokens
            assert table is not None
            noisy = table.register_forward_hook(lambda _, __, vectors: vectors + noise.to(vectors))
        with noisy:
            return model.hidden(examples.ids, positions=examples.positions, rule=rule)

    def losses_of(self, model: Transformer, hidden: Tensor, examples: Batch) -> Mapping[str, Loss]:
        loss = predict_tokens(
            model,
            hidden,
            examples.targets,
            examples.mask,
            label_smoothing=self.label_smoothing,
            z_loss=self.z_loss,
        )
        return {"next_token": loss}


def several_documents(batch: Batch) -> bool:
    """Whether any row holds more than one document; padding, which stands last, is none."""
    real = batch.documents >= 0
    return bool(((batch.documents != batch.documents[:, :1]) & real).any())
