"""Reward models: a score for each completion, read off the last token of prompt and completion.

pairwise   -ln σ(r_w - r_l - m) + c (r_w + r_l)²; Ouyang et al. 2022, equation 1; m of Touvron et al. 2023, equation 2,
           c of Eisenstein et al. 2023, section 2
pointwise  cross-entropy of σ(r) with a label; (r - rating)² with a rating
process    cross-entropy of σ(r) with a label, r at the last token of each step (Lightman et al. 2023, section 2.6)

    rewards = score(lmworks.load("judged").model, sequences)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lmworks.align.config import RewardConfig
from lmworks.align.log_probabilities import Sequences, hidden_at, sequences_of
from lmworks.data.token_groups import GroupBatch
from lmworks.model.heads import ScoreHead
from lmworks.model.transformer import Transformer
from lmworks.records import LabelledCompletion, Preference, Rated, Stepwise
from lmworks.train.losses import Loss
from lmworks.train.objectives.objective import Objective

Kind = Literal["pairwise", "label", "rating", "process"]
KINDS: Mapping[type, Kind] = {
    Preference: "pairwise",
    LabelledCompletion: "label",
    Rated: "rating",
    Stepwise: "process",
}


def score(model: Transformer, sequences: Sequences) -> Tensor:
    """The reward of each sequence, (sequences,), differentiable: of its last token that is no padding, as a
    `ForSequenceClassification` of `transformers` with one label gives it. TypeError for a model without such a head."""
    columns = torch.arange(sequences.ids.shape[1], device=sequences.ids.device)
    return scores_at(model, sequences, columns == sequences.lengths[:, None] - 1)


def scores_at(model: Transformer, sequences: Sequences, at: Tensor) -> Tensor:
    """The score at each of these places, (sequences, length) bool, row by row. TypeError as `score`."""
    head = model.head
    if not isinstance(head, ScoreHead):
        raise TypeError(f"a reward model has a head with one score, and this model's is {model.config.head}")
    return head.projection(hidden_at(model, sequences, at)).squeeze(-1)


def pairwise(scores: Tensor, config: RewardConfig = RewardConfig(), margin: Tensor | float = 0.0) -> Tensor:  # noqa: B008
    """The loss of each pair, (pairs,), of the scores of chosen and rejected completion, (pairs, 2); `margin` is the
    row's, next to the config's."""
    chosen, rejected = scores.unbind(-1)
    return (
        -F.logsigmoid(chosen - rejected - config.margin - margin)
        + config.center_rewards_coefficient * (chosen + rejected).square()
    )


@dataclass(frozen=True, slots=True)
class Reward(Objective[GroupBatch]):
    """Completions with scores, by the kind of their rows: pairs; one with the column `label` or `rating`; or two copies
    of a solution, of which the first's mask has the ends of right steps, the second's those of wrong ones.

    A target is a pair, a completion or a step. Metrics: `accuracy` (of ratings none), `margin` of pairs, and `reward`.
    """

    unit: ClassVar[str] = ""
    kind: Kind
    config: RewardConfig = RewardConfig()  # noqa: RUF009

    def counts(self, examples: GroupBatch) -> Mapping[str, int]:
        return {"reward": int(examples.completion_mask.sum()) if self.kind == "process" else len(examples)}

    def losses(self, model: Transformer, examples: GroupBatch) -> Mapping[str, Loss]:
        scores, labels = self.scored(model, examples)
        rewards = scores.detach()
        metrics = {"reward": rewards.sum()}
        match self.kind:
            case "pairwise":
                wanted = examples.columns["margin"][:, 0].to(scores) if "margin" in examples.columns else 0.0
                loss, margin = pairwise(scores, self.config, wanted), rewards[:, 0] - rewards[:, 1]
                metrics = {"accuracy": (margin > 0).sum(), "margin": margin.sum(), "reward": rewards.mean(-1).sum()}
            case "rating":
                loss = (scores - labels).square()
            case "label" | "process":
                loss = F.binary_cross_entropy_with_logits(scores, labels, reduction="none")
                metrics["accuracy"] = ((rewards > 0) == (labels > 0)).sum()
        return {"reward": Loss(loss.sum(), self.counts(examples)["reward"], metrics)}

    def scored(self, model: Transformer, examples: GroupBatch) -> tuple[Tensor, Tensor]:
        """The scores of the targets, (targets,), of pairs (targets, 2), and their labels or ratings, of pairs 1."""
        if self.kind == "process":
            first = Sequences(examples.ids[:, 0], examples.completion_mask.any(1), examples.lengths[:, 0])
            scores = scores_at(model, first, first.mask)
            return scores, examples.completion_mask[:, 0][first.mask].to(scores)
        scores = score(model, sequences_of(examples))
        if self.kind == "pairwise":
            return scores.view(-1, 2), scores.new_ones(len(examples))
        return scores, examples.columns[self.kind][:, 0].to(scores)
