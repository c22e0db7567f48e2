"""From an optimizer's config to the optimizers of a model's weights, and Lion."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, assert_never

import torch
from torch import Tensor

from lmworks.train import optimizer_config as configs
from lmworks.train.optimizers.adamw import AdamW
from lmworks.train.optimizers.muon import Muon, Whole, undivided


def build_optimizers(
    config: configs.Optimizer, weights: Mapping[str, Tensor], whole: Whole = undivided
) -> list[torch.optim.Optimizer]:
    """The optimizers of all `weights` (name → tensor), each weight in exactly one; vectors are not decayed.

    `whole` makes whole matrices of parts, for `Muon`; the others take each value alone.
    An optimizer that no weight is left for is not built: torch's refuse an empty list.
    """
    match config:
        case configs.Sgd(rate, momentum, nesterov, decay):
            groups = _by_decay(weights.values(), decay)
            return [torch.optim.SGD(groups, rate, momentum, nesterov=nesterov)]
        case configs.AdamW(_, beta1, beta2, epsilon, decay):
            groups = _by_decay(weights.values(), decay)
            return [AdamW(groups, configs.peak_rate(config), (beta1, beta2), epsilon, fused=True)]
        case configs.Lion(rate, beta1, beta2, decay):
            return [Lion(_by_decay(weights.values(), decay), rate, (beta1, beta2), decay)]
        case configs.Muon(_, momentum, steps, decay, rest):
            rate = configs.peak_rate(config)
            rest = rest if rest.rate is not None else replace(rest, rate=rate)
            # Linear maps inside of blocks: embeddings, heads and tables of positions are matrices, too.
            inside = {
                name: weight for name, weight in weights.items() if ".blocks." in name and name.endswith(".weight")
            }
            matrices = {name: weight for name, weight in inside.items() if weight.dim() == 2}
            others = {name: weight for name, weight in weights.items() if name not in matrices}
            muon = [Muon(matrices.values(), rate, momentum, decay, steps, whole)] if matrices else []
            return muon + (build_optimizers(rest, others) if others else [])
        case unknown:
            assert_never(unknown)


def _by_decay(weights: Iterable[Tensor], decay: float) -> list[dict[str, Any]]:
    """Groups of weights with and without decay."""
    weights = list(weights)
    matrices, vectors = [w for w in weights if w.dim() > 1], [w for w in weights if w.dim() <= 1]
    groups = ((matrices, decay), (vectors, 0.0))
    return [{"params": params, "weight_decay": amount} for params, amount in groups if params]


class Lion(torch.optim.Optimizer):
    """Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", Algorithm 2).

    update = sign(β₁ m + (1 - β₁) g);  m ← β₂ m + (1 - β₂) g;  w ← w - rate · (update + decay · w)."""

    def __init__(self, params: Iterable[Any], lr: float, betas: tuple[float, float], weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            (beta1, beta2), rate = group["betas"], group["lr"]
            for weight in group["params"]:
                gradient: Tensor | None = weight.grad
                if gradient is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                momentum = state["momentum"]
                update = momentum.lerp(gradient, 1 - beta1).sign_()
                momentum.lerp_(gradient, 1 - beta2)
                weight.mul_(1 - rate * group["weight_decay"]).add_(update, alpha=-rate)
