"""Mixtures of experts: a router sends each token through a few of many feed-forward networks."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lmworks.model import config as configs
from lmworks.model.feed_forward import FeedForward


class Router(nn.Linear):
    """A logit for each token and expert, in float32 at least: a choice that turns on rounding is noise, and cheap to
    avoid (Fedus et al. 2022, section 2.4, "selective precision")."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, the name that nn.Linear gives it
        """(…, width) → (…, experts)."""
        dtype = torch.promote_types(input.dtype, torch.float32)
        with torch.autocast("cuda" if input.is_cuda else "cpu", enabled=False):  # which would round to bfloat16 again
            return F.linear(input.to(dtype), self.weight.to(dtype))


class MixtureOfExperts(nn.Module):
    """Each token runs through the experts that the router chose for it; their weighted outputs are added.

    The choices are sorted by expert, so that each expert runs once, on one contiguous piece, whatever the number of
    tokens. `routing.observe_routing` shows what the router did.
    """

    def __init__(self, config: configs.MixtureOfExperts, width: int) -> None:
        super().__init__()
        self.config = config
        self.router = Router(width, config.experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(config.expert, width) for _ in range(config.experts))
        self.shared = FeedForward(config.shared, width) if config.shared else None

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, length, width) → (batch, length, width)."""
        weights, chosen = route(self.router(hidden), self.config)  # (batch, length, top_k) each
        order = chosen.flatten().argsort(stable=True)  # (tokens * top_k,); dropped choices come last
        # The pieces' sizes are needed on the host to cut them: the one time that a GPU is waited for.
        counts = chosen.flatten().bincount(minlength=self.config.experts + 1).tolist()
        pieces = hidden.flatten(0, 1)[order // self.config.top_k].split(counts)  # (count, width) each
        outputs = self.run(pieces[:-1])
        outputs.append(torch.zeros_like(pieces[-1]))  # of the dropped choices
        # (batch, length, top_k, width)
        spread = torch.cat(outputs)[order.argsort()].view(*chosen.shape, hidden.shape[-1])
        mixed = (weights[..., None] * spread).sum(dim=2).to(hidden.dtype)
        return mixed if self.shared is None else mixed + self.shared(hidden)

    def run(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        """Each expert on its piece (count, width), in the experts' order; who has none is left out."""
        return [expert(piece) for expert, piece in zip(self.experts, pieces, strict=True) if len(piece)]


def route(logits: Tensor, config: configs.MixtureOfExperts) -> tuple[Tensor, Tensor]:
    """`logits` (batch, length, experts) → weights (floating) and experts (int64), (batch, length, top_k) each.

    A choice that found its expert full has the number `experts`. Places are given token by token, all of a token's
    choices before the next one's, so that a token never depends on a later one. GShard (Lepikhin et al. 2021, algorithm
    1) gives all first choices a place before any second: fewer of them are dropped, but a decoder would see the future.
    With `top_k == 1` the two are the same.
    """
    probabilities = logits.softmax(dim=-1)
    weights, chosen = probabilities.topk(config.top_k, dim=-1)
    if config.normalise:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    capacity = _capacity(config, logits.shape[1])
    if capacity is None:
        return weights, chosen
    in_turn = chosen.flatten(1)  # (batch, length * top_k)
    demand = F.one_hot(in_turn, config.experts).cumsum(dim=1)  # (batch, length * top_k, experts)
    place = demand.gather(-1, in_turn[..., None]).view_as(chosen)  # in its expert's queue, from 1
    return weights, chosen.masked_fill(place > capacity, config.experts)


def _capacity(config: configs.MixtureOfExperts, length: int) -> int | None:
    if config.capacity_factor is not None:
        return math.ceil(config.capacity_factor * config.top_k * length / config.experts)
    return config.capacity
