"""Odds ratio preference optimisation (Hong et al. 2024): fine-tuning on the chosen completion, and away from the
rejected one, in one step and without a reference.

-1/|y_w| S ln π(y_w) - λ ln σ(ln odds(y_w) - ln odds(y_l)), equation 6, S being the sum over a completion's tokens and
odds(y) = p / (1 - p) of p = exp(1/|y| S ln π(y)), equation 4
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lmworks.align.config import ORPOConfig
from lmworks.align.log_probabilities import pair_sums
from lmworks.align.simpo import pair_metrics
from lmworks.data.token_groups import GroupBatch
from lmworks.model.transformer import Transformer
from lmworks.train.losses import Loss
from lmworks.train.objectives.objective import Objective


def orpo(policy: Tensor, lengths: Tensor, config: ORPOConfig = ORPOConfig()) -> Tensor:  # noqa: B008
    """The loss of each pair, (pairs,); policy and lengths (pairs, 2): S ln π and tokens of chosen and rejected."""
    mean = (policy / lengths).clamp(max=-1e-7)  # of a certain completion the odds are infinite
    chosen, rejected = (mean - torch.log(-torch.expm1(mean))).unbind(-1)
    return -mean[:, 0] - config.weight * F.logsigmoid(chosen - rejected)


@dataclass(frozen=True, slots=True)
class ORPO(Objective[GroupBatch]):
    """Pairs of completions, chosen before rejected; a target each. Metrics as those of `SimPO`, with β 1."""

    config: ORPOConfig = ORPOConfig()  # noqa: RUF009

    def counts(self, examples: GroupBatch) -> Mapping[str, int]:
        return {"orpo": len(examples)}

    def losses(self, model: Transformer, examples: GroupBatch) -> Mapping[str, Loss]:
        policy, lengths = pair_sums(model, examples)
        loss = orpo(policy, lengths, self.config).sum()
        return {"orpo": Loss(loss, len(examples), pair_metrics(policy, lengths, 1.0))}
