"""Simple preference optimisation (Meng et al. 2024): what is likely a token, with a margin, and no reference.

-ln σ(β/|y_w| S ln π(y_w) - β/|y_l| S ln π(y_l) - γ), equation 6, S being the sum over a completion's tokens
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lmworks.align.config import SimPOConfig
from lmworks.align.log_probabilities import pair_sums
from lmworks.data.token_groups import GroupBatch
from lmworks.model.transformer import Transformer
from lmworks.train.losses import Loss
from lmworks.train.objectives.objective import Objective


def simpo(policy: Tensor, lengths: Tensor, config: SimPOConfig = SimPOConfig()) -> Tensor:  # noqa: B008
    """The loss of each pair, (pairs,); policy and lengths (pairs, 2): S ln π and tokens of chosen and rejected."""
    chosen, rejected = (policy / lengths).unbind(-1)
    return -F.logsigmoid(config.beta * (chosen - rejected) - config.gamma)


@dataclass(frozen=True, slots=True)
class SimPO(Objective[GroupBatch]):
    """Pairs of completions, chosen before rejected; a target each.

    Metrics: `accuracy` (the share of pairs whose chosen completion is likelier a token), `margin` (β times by how
    much), `logp_chosen`, `logp_rejected`, of a whole completion.
    """

    config: SimPOConfig = SimPOConfig()  # noqa: RUF009

    def counts(self, examples: GroupBatch) -> Mapping[str, int]:
        return {"simpo": len(examples)}

    def losses(self, model: Transformer, examples: GroupBatch) -> Mapping[str, Loss]:
        policy, lengths = pair_sums(model, examples)
        loss = simpo(policy, lengths, self.config).sum()
        return {"simpo": Loss(loss, len(examples), pair_metrics(policy, lengths, self.config.beta))}


@torch.no_grad()
def pair_metrics(policy: Tensor, lengths: Tensor, beta: float) -> dict[str, Tensor]:
    """Sums over pairs of `SimPO`'s metrics."""
    margin = (policy / lengths)[:, 0] - (policy / lengths)[:, 1]
    return {
        "accuracy": (margin > 0).sum(),
        "margin": beta * margin.sum(),
        "logp_chosen": policy[:, 0].sum(),
        "logp_rejected": policy[:, 1].sum(),
    }
