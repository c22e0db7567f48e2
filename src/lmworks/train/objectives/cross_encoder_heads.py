"""Losses of cross-encoders: two texts in, one head out (Devlin et al. 2019, section 4; Nogueira & Cho 2019).

reader     -log p(start) - log p(end) over the places of the pair, place 0 standing for "no answer"
reranker   -log σ(s) of a passage that answers, -log σ(-s) of one that does not
verifier   -log p(label)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lmworks.data.token_groups import GroupBatch
from lmworks.model.transformer import Transformer
from lmworks.train.losses import Loss
from lmworks.train.objectives.cross_encoder_rows import Task
from lmworks.train.objectives.objective import Objective, rows_by_length


@dataclass(frozen=True, slots=True, eq=False)
class PairExamples:
    """Pairs of texts, (groups, size, length) as in `GroupBatch`, and their columns, (groups, size) float32."""

    ids: Tensor
    attention_mask: Tensor
    columns: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class CrossEncoding(Objective[PairExamples]):
    """The loss of a head on pairs of texts, a target each.

    The metric `accuracy` is the share of pairs whose span, relevance (s > 0) or label is right.
    """

    task: Task

    def examples(self, batch: GroupBatch, seed: int) -> PairExamples:
        return PairExamples(batch.ids, batch.attention_mask, batch.columns)

    def counts(self, examples: PairExamples) -> Mapping[str, int]:
        return {self.task: int(examples.attention_mask.any(-1).sum())}

    def losses(self, model: Transformer, examples: PairExamples) -> Mapping[str, Loss]:
        present = examples.attention_mask.any(-1)  # (groups, size)
        ids, mask = examples.ids[present], examples.attention_mask[present]  # (pairs, length)
        columns = {name: values[present] for name, values in examples.columns.items()}  # (pairs,)
        losses, right = [], []
        for rows, longest in rows_by_length(mask.sum(-1)):
            kept = mask[rows, :longest]
            output = model(ids[rows, :longest], attention_mask=kept).float()
            loss, correct = self._loss(output, kept, {name: values[rows] for name, values in columns.items()})
            losses.append(loss)
            right.append(correct)
        nats = torch.cat(losses)
        return {self.task: Loss(nats.sum(), len(nats), {"accuracy": torch.cat(right).sum()})}

    def _loss(self, output: Tensor, mask: Tensor, columns: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The nats of each pair and whether it is right, (pairs,); `output` is what the model's head gives."""
        if self.task == "reader":
            logits = output.masked_fill(~mask[..., None], -torch.inf)  # (pairs, length, 2)
            wanted = torch.stack((columns["start"], columns["end"]), dim=-1).long()  # (pairs, 2)
            nats = F.cross_entropy(logits, wanted, reduction="none").sum(-1)
            return nats, (logits.argmax(1) == wanted).all(-1)
        if self.task == "reranker":
            score = output.squeeze(-1)
            nats = F.binary_cross_entropy_with_logits(score, columns["label"], reduction="none")
            return nats, (score > 0) == (columns["label"] > 0)
        wanted = columns["label"].long()
        return F.cross_entropy(output, wanted, reduction="none"), output.argmax(-1) == wanted
