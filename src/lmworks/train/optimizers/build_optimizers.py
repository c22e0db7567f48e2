"""From an optimizer's config to the optimizers of a model's weights."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, assert_never

import torch
from torch import Tensor

from lmworks.train import optimizer_config as configs
from lmworks.train.optimizers.adamw import AdamW
from lmworks.train.optimizers.lion import Lion
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
            matrices = {name: weight for name, weight in weights.items() if _is_projection(name, weight)}
            others = {name: weight for name, weight in weights.items() if name not in matrices}
            muon = [Muon(matrices.values(), rate, momentum, decay, steps, whole)] if matrices else []
            return muon + (build_optimizers(rest, others) if others else [])
        case unknown:
            assert_never(unknown)


def _is_projection(name: str, weight: Tensor) -> bool:
    """Whether Muon takes it: a linear map inside of a block. Embeddings, heads and tables of positions are matrices
    too."""
    return ".blocks." in name and name.endswith(".weight") and weight.dim() == 2


def _by_decay(weights: Iterable[Tensor], decay: float) -> list[dict[str, Any]]:
    """Groups of weights with and without decay."""
    weights = list(weights)
    matrices, vectors = [w for w in weights if w.dim() > 1], [w for w in weights if w.dim() <= 1]
    groups = ((matrices, decay), (vectors, 0.0))
    return [{"params": params, "weight_decay": amount} for params, amount in groups if params]
