"""Multi-token prediction (Gloeckle et al. 2024, section 2): at each place not only the next token, but those after it.

Gloeckle et al. let n blocks read the trunk's output side by side. Here they stand one behind the other, as in
DeepSeek-V3 (DeepSeek-AI 2024, section 2.2): block k reads what block k - 1 made and the token that it was to predict.
The model below is then left as it is, whose last block would be the first of theirs, so that taking the blocks off
changes no bit of its logits; and what they guess is conditional on the tokens in between, which makes guesses that are
kept when the model guesses ahead for itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lmworks.config import positive
from lmworks.data.batches import PADDING, Batch
from lmworks.model.heads import MultiTokenHead
from lmworks.model.transformer import Transformer
from lmworks.train.losses import Loss
from lmworks.train.objectives.causal import document_rule
from lmworks.train.objectives.objective import OnHiddenStates, predict_tokens


@dataclass(frozen=True, slots=True)
class MultiTokenPrediction(OnHiddenStates[Batch]):
    """The next token, and `depth` further ones where they are in the same document and the data asks for them.

        loss = L_next + weight / depth · Σ_k L_k,  L_k the mean of -log p(token i + k + 1 | tokens up to i + k)

    after DeepSeek-AI 2024, equations 24 and 25, where each L_k is a mean over its own targets.

    depth   of the model's head or less; `task_head.with_further_tokens` gives a model one
    weight  λ; DeepSeek-V3: 0.3 for the first two thirds of its tokens, then 0.1
    apart   whether documents of a row see only themselves; as the loader's `document_mask`
    """

    depth: int = 1
    weight: float = 0.3
    apart: bool = True
    label_smoothing: float = 0.0
    z_loss: float = 0.0

    def __post_init__(self) -> None:
        positive(depth=self.depth, weight=self.weight)

    def counts(self, examples: Batch) -> Mapping[str, int]:
        return {name: int(self._asked(examples, k).sum()) for k, name in enumerate(self._names())}

    def hidden(self, model: Transformer, examples: Batch) -> Tensor:
        rule = document_rule(examples) if self.apart else None
        return model.hidden(examples.ids, positions=examples.positions, rule=rule)

    def losses_of(self, model: Transformer, hidden: Tensor, examples: Batch) -> Mapping[str, Loss]:
        """TypeError for a model without a `MultiTokenHead`, ValueError for one of less depth."""
        head = model.head
        if not isinstance(head, MultiTokenHead):
            raise TypeError(f"this objective needs a config.MultiTokenHead, the model's is {model.config.head}")
        if self.depth > len(head.steps):
            raise ValueError(f"the head predicts {len(head.steps)} further tokens, not {self.depth}")
        embed = model.embedding.tokens
        assert embed is not None
        rule = document_rule(examples) if self.apart else None
        further = head.further(hidden, embed, examples.targets, examples.positions, rule)
        losses = {self._names()[0]: self._loss(model, hidden, examples, 0)}
        for k, ((name, weight), ahead) in enumerate(zip(self.loss_weights().items(), further, strict=False), start=1):
            loss = self._loss(model, ahead, examples, k)
            losses[name] = Loss(loss.sum * weight, loss.count, loss.metrics)
        return losses

    def loss_weights(self) -> Mapping[str, float]:
        """λ / depth for each further token."""
        return dict.fromkeys(self._names()[1:], self.weight / self.depth)

    def _names(self) -> list[str]:
        return ["next_token", *(f"token_{k + 1}" for k in range(1, self.depth + 1))]

    def _loss(self, model: Transformer, hidden: Tensor, examples: Batch, k: int) -> Loss:
        return predict_tokens(
            model,
            hidden,
            _shifted(examples.targets, k, 0),
            self._asked(examples, k),
            label_smoothing=self.label_smoothing,
            z_loss=self.z_loss,
        )

    def _asked(self, examples: Batch, k: int) -> Tensor:
        """(batch, length) bool: whether the token k + 1 places on is a target of this place."""
        later = _shifted(examples.documents, k, PADDING)
        together = later == examples.documents if self.apart else later != PADDING
        return _shifted(examples.mask, k, False) & together


def _shifted(values: Tensor, steps: int, fill: int | bool) -> Tensor:
    """The values `steps` further on in each row."""
    return F.pad(values[:, steps:], (0, min(steps, values.shape[1])), value=fill)
