"""Direct preference optimisation (Rafailov et al. 2023) and its variants.

h = [S ln π(y_w) - S ln π_ref(y_w)] - [S ln π(y_l) - S ln π_ref(y_l)], S being the sum over a completion's tokens

sigmoid       -ln σ(βh), section 4
robust        [-(1-ε) ln σ(βh) + ε ln σ(-βh)] / (1-2ε), labels flipped with probability ε (Chowdhury et al. 2024)
cdpo          -(1-ε) ln σ(βh) - ε ln σ(-βh), the conservative form (Mitchell 2023)
ipo           (h' - 1/(2β))² with S the mean over tokens (Azar et al. 2023, equation 17, whose S is the sum)
sigmoid_norm  -ln σ(βh') with S the mean over tokens (Lambert et al. 2024, section 5)
apo_zero      [1 - σ(βr_w)] + σ(βr_l), r a completion's part of h (D'Oosterlinck et al. 2024)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lmworks.align.config import DPOConfig
from lmworks.align.log_probabilities import pair_sums
from lmworks.data.token_groups import GroupBatch
from lmworks.model.transformer import Transformer
from lmworks.train.losses import Loss
from lmworks.train.objectives.objective import Objective

REFERENCE = "reference"  # the column with Σ ln π_ref of a completion


def dpo(policy: Tensor, reference: Tensor, lengths: Tensor, config: DPOConfig = DPOConfig()) -> Tensor:  # noqa: B008
    """The loss of each pair, (pairs,).

    policy, reference  (pairs, 2): Σ ln π of chosen and rejected completion
    lengths            (pairs, 2): tokens of these
    """
    ratios = policy - reference
    if config.loss in ("ipo", "sigmoid_norm"):
        ratios = ratios / lengths
    chosen, rejected = ratios.unbind(-1)
    h, beta, epsilon = chosen - rejected, config.beta, config.label_smoothing
    match config.loss:
        case "sigmoid" | "sigmoid_norm":
            return -F.logsigmoid(beta * h)
        case "robust":
            return (-(1 - epsilon) * F.logsigmoid(beta * h) + epsilon * F.logsigmoid(-beta * h)) / (1 - 2 * epsilon)
        case "cdpo":
            return -(1 - epsilon) * F.logsigmoid(beta * h) - epsilon * F.logsigmoid(-beta * h)
        case "ipo":
            return (h - 1 / (2 * beta)).square()
        case "apo_zero":
            return torch.sigmoid(-beta * chosen) + torch.sigmoid(beta * rejected)


@dataclass(frozen=True, slots=True)
class DPO(Objective[GroupBatch]):
    """Pairs of completions, chosen before rejected, with the column `reference`; a target each.

    Metrics: `accuracy` (the share of pairs with h > 0), `margin` (βh), `logp_chosen`, `logp_rejected`, and `kl`, the
    mean of S ln π - S ln π_ref over both. ln π of the chosen completion may fall too: the loss asks for a margin.
    """

    config: DPOConfig = DPOConfig()  # noqa: RUF009

    def counts(self, examples: GroupBatch) -> Mapping[str, int]:
        return {"dpo": len(examples)}

    def losses(self, model: Transformer, examples: GroupBatch) -> Mapping[str, Loss]:
        policy, lengths = pair_sums(model, examples)
        reference = examples.columns[REFERENCE].to(policy)
        loss = dpo(policy, reference, lengths, self.config).sum()
        if self.config.nll:  # of the chosen completion, a token (Pang et al. 2024, equation 1)
            loss = loss - self.config.nll * (policy[:, 0] / lengths[:, 0]).sum()
        with torch.no_grad():
            ratios = policy - reference
            margin = ratios[:, 0] - ratios[:, 1]
            metrics = {
                "accuracy": (margin > 0).sum(),
                "margin": self.config.beta * margin.sum(),
                "logp_chosen": policy[:, 0].sum(),
                "logp_rejected": policy[:, 1].sum(),
                "kl": ratios.mean(-1).sum(),
            }
        return {"dpo": Loss(loss, len(examples), metrics)}
