"""Feed-forward networks, and the mixture of experts: a router sends each token through a few of many.

The second half observes the routers from outside, and computes their losses and statistics.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lmworks.kernels import reference
from lmworks.model import config as configs

ACTIVATIONS = {**reference.ACTIVATIONS, "tanh": torch.tanh}


class FeedForward(nn.Module):
    """Two projections around an activation, or three when gated (Shazeer 2020, "GLU Variants Improve Transformer")."""

    def __init__(self, config: configs.FeedForward, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, config.hidden, bias=config.bias) if config.gated else None
        self.up = nn.Linear(width, config.hidden, bias=config.bias)
        self.down = nn.Linear(config.hidden, width, bias=config.bias)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, width) → (…, width), each position by itself."""
        if self.gate is None:
            return self.down(self.activation(self.up(hidden)))
        return self.down(self.activation(self.gate(hidden)) * self.up(hidden))


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
    tokens. `observe_routing` shows what the router did.
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
    capacity = config.capacity
    if config.capacity_factor is not None:
        capacity = math.ceil(config.capacity_factor * config.top_k * logits.shape[1] / config.experts)
    if capacity is None:
        return weights, chosen
    in_turn = chosen.flatten(1)  # (batch, length * top_k)
    demand = F.one_hot(in_turn, config.experts).cumsum(dim=1)  # (batch, length * top_k, experts)
    queue_position = demand.gather(-1, in_turn[..., None]).view_as(chosen)  # in its expert's queue, from 1
    return weights, chosen.masked_fill(queue_position > capacity, config.experts)


# ---------------------------------------------------------------------------------------------------------------------
# Routing, observed


@dataclass(frozen=True)
class Routing:
    """One layer's routing: its router's `logits` (batch, length, experts), and with them the choices.

    The logits carry gradients if the forward did.
    """

    logits: Tensor
    config: configs.MixtureOfExperts

    @property
    def chosen(self) -> Tensor:
        """The experts of each token, (batch, length, top_k) int64; `experts` where one was full, as in `route`."""
        return route(self.logits, self.config)[1]


@contextmanager
def observe_routing(model: nn.Module) -> Iterator[dict[str, Routing]]:
    """Within the `with`, every forward of `model` fills the dictionary: the name of each mixture to its routing.

        with observe_routing(model) as routing:
            logits = model(ids)
        losses = [router_z_loss(layer.logits, attention_mask) for layer in routing.values()]  # (batch,) each

    A later forward replaces an earlier one's. The names are the modules', such as `decoder.blocks.1.feed_forward`.
    """
    routing: dict[str, Routing] = {}

    def keep(name: str, config: configs.MixtureOfExperts, router: nn.Module, inputs: object, logits: Tensor) -> None:
        routing[name] = Routing(logits, config)

    handles = [
        mixture.router.register_forward_hook(partial(keep, name, mixture.config))
        for name, mixture in model.named_modules()
        if isinstance(mixture, MixtureOfExperts)
    ]
    try:
        yield routing
    finally:
        for handle in handles:
            handle.remove()


def load_balancing_loss(logits: Tensor, top_k: int, mask: Tensor | None = None) -> Tensor:
    """`N sum_i f_i P_i` of each row (Fedus et al. 2022, equations 4 to 6), (…,), without their weight alpha of 0.01.

    N is the number of experts, f_i the share of a row's tokens that chose expert i, full or not, and P_i the mean
    probability of i, which alone carries gradients. A token counts for each of its `top_k` choices: balance gives
    `top_k`. The paper adds one such loss for each layer; `transformers` computes Mixtral's once, over the tokens of all
    layers and rows: make one row of their logits for that. Rows are DeepSeek-AI 2024's (equations 17 to 20): the
    product of two means is no sum over tokens, and over a micro-batch it would depend on how a step is divided.

    logits  (…, length, experts) of the router.
    mask    (…, length) bool, True = a real token; 0 is the loss of a row without any.
    """
    probabilities = logits.softmax(dim=-1)
    choices = F.one_hot(probabilities.topk(top_k, dim=-1).indices, logits.shape[-1]).sum(dim=-2)
    shares = _mean(choices.to(logits.dtype), mask)  # f, (…, experts)
    return logits.shape[-1] * (shares * _mean(probabilities, mask)).sum(dim=-1)


def router_z_loss(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean over each row's tokens of `logsumexp(logits)²` (Zoph et al. 2022, equation 5), (…,), without their
    weight of 0.001. It keeps the logits small, where float32 and bfloat16 can tell them apart. Arguments as above."""
    return _mean(logits.logsumexp(dim=-1, keepdim=True).square(), mask).squeeze(-1)


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """(…, length, n) → (…, n), over the real tokens."""
    if mask is None:
        return values.mean(dim=-2)
    real = mask[..., None].to(values.dtype)
    return (values * real).sum(dim=-2) / real.sum(dim=-2).clamp(min=1)


@dataclass(frozen=True)
class ExpertUse:
    """Statistics of how evenly a layer's experts are used.

    shares             of all choices, which expert was chosen, full or not: sums to one.
    dropped            the share of choices that found their expert full.
    effective_experts  `exp` of the entropy of the shares: the number of experts that would be used as unevenly if each
                       were used equally; 1 is a collapsed router.
    """

    shares: tuple[float, ...]
    dropped: float
    effective_experts: float


@torch.no_grad()
def expert_use(routing: Routing, mask: Tensor | None = None) -> ExpertUse:
    """Statistics of one layer over the real tokens: `mask` (batch, length) bool."""
    logits = _real(routing.logits, mask)
    choices = logits.topk(routing.config.top_k, dim=-1).indices.flatten()
    shares = F.one_hot(choices, logits.shape[-1]).to(logits.dtype).mean(dim=0)  # (experts,)
    dropped = _real(routing.chosen, mask) == routing.config.experts
    effective = torch.special.entr(shares).sum().exp()
    return ExpertUse(tuple(shares.tolist()), dropped.to(logits.dtype).mean().item(), effective.item())


def _real(values: Tensor, mask: Tensor | None) -> Tensor:
    """(…, n) → (tokens, n), without the padding. ValueError if nothing is left."""
    tokens = values.flatten(0, -2) if mask is None else values[mask.bool()]
    if not len(tokens):
        raise ValueError("the mask leaves no token: there is nothing to measure")
    return tokens
