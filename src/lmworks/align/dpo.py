"""Preference optimisation on pairs of completions: DPO (Rafailov et al. 2023) and its variants, SimPO (Meng et al.
2024), ORPO (Hong et al. 2024).

S is the sum over a completion's tokens, w the chosen one of a pair, l the rejected one;
r = S ln π(y) - S ln π_ref(y), and h = r_w - r_l

sigmoid       -ln σ(βh), section 4
robust        [-(1-ε) ln σ(βh) + ε ln σ(-βh)] / (1-2ε), labels flipped with probability ε (Chowdhury et al. 2024)
cdpo          -(1-ε) ln σ(βh) - ε ln σ(-βh), the conservative form (Mitchell 2023)
ipo           (h' - 1/(2β))² with S the mean over tokens (Azar et al. 2023, equation 17, whose S is the sum)
sigmoid_norm  -ln σ(βh') with S the mean over tokens (Lambert et al. 2024, section 5)
simpo         -ln σ(β/|y_w| S ln π(y_w) - β/|y_l| S ln π(y_l) - γ), equation 6, without a reference
orpo          -1/|y_w| S ln π(y_w) - λ ln σ(ln odds(y_w) - ln odds(y_l)), equation 6, without a reference; odds(y) =
              p / (1 - p) of p = exp(1/|y| S ln π(y)), equation 4
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lmworks.align.config import DPOConfig, ORPOConfig, SimPOConfig
from lmworks.align.log_probabilities import completion_sums, sequences_of
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
            loss = -F.logsigmoid(beta * h)
        case "robust":
            loss = (-(1 - epsilon) * F.logsigmoid(beta * h) + epsilon * F.logsigmoid(-beta * h)) / (1 - 2 * epsilon)
        case "cdpo":
            loss = -(1 - epsilon) * F.logsigmoid(beta * h) - epsilon * F.logsigmoid(-beta * h)
        case "ipo":
            loss = (h - 1 / (2 * beta)).square()
    return loss - config.nll * policy[:, 0] / lengths[:, 0]  # a token's (Pang et al. 2024, equation 1)


def simpo(policy: Tensor, lengths: Tensor, config: SimPOConfig = SimPOConfig()) -> Tensor:  # noqa: B008
    """The loss of each pair, as of `dpo`."""
    chosen, rejected = (policy / lengths).unbind(-1)
    return -F.logsigmoid(config.beta * (chosen - rejected) - config.gamma)


def orpo(policy: Tensor, lengths: Tensor, config: ORPOConfig = ORPOConfig()) -> Tensor:  # noqa: B008
    """The loss of each pair, as of `dpo`."""
    mean = (policy / lengths).clamp(max=-1e-7)  # of a certain completion the odds are infinite
    chosen, rejected = (mean - torch.log(-torch.expm1(mean))).unbind(-1)
    return -mean[:, 0] - config.weight * F.logsigmoid(chosen - rejected)


@dataclass(frozen=True, slots=True)
class Pairs(Objective[GroupBatch]):
    """Pairs of completions, chosen before rejected, for DPO with the column `reference`; a target each.

    temperature  At which ln π is taken; of sampled completions and their reference, that of the sampling.

    Metrics, TRL's: `accuracy`, the share of pairs whose chosen completion has the higher reward, ties half; `margin`,
    by how much it is higher; `rewards/chosen` and `rewards/rejected`; `logp_chosen` and `logp_rejected`. A reward is
    β r, of SimPO β ln π a token and of ORPO ln π a token. Of DPO also `log_ratio_chosen`, r of the chosen completion, a
    token: it may fall, too, as the loss asks for a margin.
    """

    unit: ClassVar[str] = ""
    config: DPOConfig | SimPOConfig | ORPOConfig = DPOConfig()  # noqa: RUF009
    temperature: float = 1.0

    def counts(self, examples: GroupBatch) -> Mapping[str, int]:
        return {self.config.kind: len(examples)}

    def losses(self, model: Transformer, examples: GroupBatch) -> Mapping[str, Loss]:
        sequences = sequences_of(examples)
        policy = completion_sums(model, sequences, self.temperature).view(-1, 2)
        lengths, config, beta = sequences.mask[:, 1:].sum(-1).view(-1, 2), self.config, 1.0
        rewards = (policy / lengths).detach()
        match config:
            case DPOConfig(beta=beta):
                reference = examples.columns[REFERENCE].to(policy)
                loss, rewards = dpo(policy, reference, lengths, config), (policy - reference).detach()
            case SimPOConfig(beta=beta):
                loss = simpo(policy, lengths, config)
            case ORPOConfig():
                loss = orpo(policy, lengths, config)
        margin, means = rewards[:, 0] - rewards[:, 1], (beta * rewards).sum(0)
        metrics = {"accuracy": (0.5 + 0.5 * margin.sign()).sum(), "margin": beta * margin.sum()}
        if isinstance(config, DPOConfig):
            metrics["log_ratio_chosen"] = (rewards / lengths)[:, 0].sum()
        for name, reward, total in zip(("chosen", "rejected"), means, policy.detach().sum(0), strict=True):
            metrics |= {f"rewards/{name}": reward, f"logp_{name}": total}
        return {config.kind: Loss(loss.sum(), len(examples), metrics)}
