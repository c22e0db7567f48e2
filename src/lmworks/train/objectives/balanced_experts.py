"""The losses of a mixture's routers, next to those of any objective: experts in balance, and small logits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lmworks.data.batches import PADDING
from lmworks.model.mixture_of_experts import (
    ExpertUse,
    MixtureOfExperts,
    expert_use,
    load_balancing_loss,
    observe_routing,
    router_z_loss,
)
from lmworks.model.transformer import Transformer
from lmworks.train.config import TrainConfig
from lmworks.train.losses import Loss
from lmworks.train.objectives.objective import Objective, to_device
from lmworks.train.objectives.sequence_to_sequence import Rewritings


@dataclass(frozen=True)
class BalancedExperts(Objective[Any]):
    """`objective`, and for each layer's router `balance` · N Σ f_i P_i (Fedus et al. 2022, equations 4 to 6) and
    `router_z` · logsumexp² (Zoph et al. 2022, equation 5).

    Both are means over the real tokens of a row, and a row weighs as many as it has targets: they are penalties of the
    objective's first loss, no targets of their own, and micro-batches, padding and processes change nothing. Its
    metrics have them without their weights, as means over layers: balance gives `top_k`, collapse on one expert N.
    """

    objective: Objective[Any]
    balance: float = field(default=0.01, repr=False)  # no part of what a validation measured
    router_z: float = field(default=0.001, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "unit", self.objective.unit)

    def examples(self, batch: Any, seed: int) -> Any:
        return self.objective.examples(batch, seed)

    def counts(self, examples: Any) -> Mapping[str, int]:
        return self.objective.counts(examples)

    def loss_weights(self) -> Mapping[str, float]:
        return self.objective.loss_weights()

    def losses(self, model: Transformer, examples: Any) -> Mapping[str, Loss]:
        """See `Objective`; the errors are those of `objective`."""
        with observe_routing(model) as routing:
            losses = dict(self.objective.losses(model, examples))
        if not (real := _real_tokens(examples)):
            return losses
        name, loss = next(iter(losses.items()))
        layers = [(layer, real[stack.partition(".")[0]]) for stack, layer in routing.items()]
        targets = examples.mask.sum(dim=1).to(layers[0][0].logits)  # (rows,)
        balances = [load_balancing_loss(layer.logits, layer.config.top_k, mask) for layer, mask in layers]  # (rows,)
        balance = targets @ torch.stack(balances).sum(dim=0)
        router_z = targets @ torch.stack([router_z_loss(layer.logits, mask) for layer, mask in layers]).sum(dim=0)
        means = {"load_balancing": balance / len(layers), "router_z": router_z / len(layers)}
        metrics = {"nats": loss.sum.detach(), **loss.metrics, **{key: mean.detach() for key, mean in means.items()}}
        losses[name] = Loss(loss.sum + self.balance * balance + self.router_z * router_z, loss.count, metrics)
        return losses


def balanced(objective: Objective[Any], model: nn.Module, config: TrainConfig) -> Objective[Any]:
    """The objective with its model's experts in balance, where it trains routers. ValueError for a layout that divides
    rows or layers."""
    trained = any(m.router.weight.requires_grad for m in model.modules() if isinstance(m, MixtureOfExperts))
    if not trained or not (config.balance or config.router_z):
        return objective
    if config.parallel.context * config.parallel.pipeline > 1:
        raise ValueError(
            "experts are balanced over whole rows and layers, which train.parallel.context and .pipeline divide: leave "
            "those out, or set train.balance=0 and train.router_z=0"
        )
    return BalancedExperts(objective, config.balance, config.router_z)


@torch.no_grad()
def expert_load(
    model: Transformer, objective: Objective[Any], examples: Any, device: torch.device | str
) -> dict[str, ExpertUse]:
    """How the layers of a mixture use their experts in these examples, by the layers' names."""
    with observe_routing(model) as routing:
        objective.losses(model, to_device(examples, device))
    real = _real_tokens(examples)
    return {name: expert_use(layer, real.get(name.partition(".")[0])) for name, layer in routing.items()}


def _real_tokens(examples: Any) -> dict[str, Tensor]:
    """Which tokens of each stack are no padding, (rows, length) bool; empty where the examples are no rows of tokens
    with a `mask` of targets, as those of preferences and rewards: their experts are not balanced."""
    if isinstance(examples, Rewritings):
        return {"encoder": examples.attention_mask, "decoder": examples.mask}
    documents = getattr(examples, "documents", None)
    known = documents is not None and hasattr(examples, "mask")
    return dict.fromkeys(("encoder", "decoder"), documents != PADDING) if known else {}
