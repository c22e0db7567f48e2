"""Mixtures of experts in less memory than their experts take: the weights stay where they are cheap, and a few experts
of each layer are kept ready (Eliseev & Mazur 2023, section 3.1).

A token needs few experts, and neighbouring tokens often the same ones: each layer keeps those it used last. A step runs
every expert that any of its tokens chose once, on all of these tokens, as the mixture itself does.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from lmworks.model import config as configs
from lmworks.model.feed_forward import FeedForward
from lmworks.model.mixture_of_experts import MixtureOfExperts
from lmworks.model.tensor_files import LazyTensors
from lmworks.model.transformer import Transformer, sharing_copy


@dataclass
class OffloadCounters:
    """Counts of expert hits and misses of all layers.

    hits         times that an expert was needed and was ready; `misses`: that it had to be fetched.
    bytes_moved  of the experts that were fetched, in the dtype they are computed in.
    """

    hits: int = 0
    misses: int = 0
    bytes_moved: int = 0


class ReadyExperts:
    """The experts of one layer that are ready to compute, at most `resident`; the least recently used one gives way.

    weights   of all experts by their names in the layer, such as `3.up.weight`; each is asked for at every miss.
    make      an expert without values, where it is to compute: called at most `resident` times. A miss overwrites the
              one that gives way, so that nothing is allocated or freed while the model runs.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], resident: int, make: Callable[[], FeedForward], counters: OffloadCounters
    ) -> None:
        self._weights, self._resident, self._make, self.counters = weights, resident, make, counters
        self._ready: OrderedDict[int, FeedForward] = OrderedDict()

    def __contains__(self, number: int) -> bool:
        return number in self._ready

    def get(self, number: int) -> FeedForward:
        """Expert `number`, which is then the most recently used one."""
        if number in self._ready:
            self.counters.hits += 1
            self._ready.move_to_end(number)
        else:
            full = len(self._ready) == self._resident
            self._ready[number] = self._fetch(number, self._ready.popitem(last=False)[1] if full else self._make())
        return self._ready[number]

    @torch.no_grad()
    def _fetch(self, number: int, place: FeedForward) -> FeedForward:
        self.counters.misses += 1
        for name, parameter in place.named_parameters():
            parameter.copy_(self._weights[f"{number}.{name}"])
            self.counters.bytes_moved += parameter.nbytes
        return place


class OffloadedMixture(MixtureOfExperts):
    """A mixture whose experts are fetched when tokens need them; router and shared expert stay with the model."""

    def __init__(self, base: MixtureOfExperts, ready: ReadyExperts) -> None:
        nn.Module.__init__(self)
        self.config, self.router, self.shared = base.config, base.router, base.shared
        self.ready = ready  # no module: what happens to be ready is no part of the model's weights

    def run(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        """Each expert on its piece (count, width), in the experts' order; who has none is left out.

        Those that are ready run first: fetching another one might push them out.
        """
        needed = [number for number, piece in enumerate(pieces) if len(piece)]
        outputs: dict[int, Tensor] = {}
        for number in sorted(needed, key=lambda number: number not in self.ready):
            outputs[number] = self.ready.get(number)(pieces[number])
        return [outputs[number] for number in needed]


def offload_experts(
    model: Transformer,
    resident: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> Transformer:
    """The model with at most `resident` experts of each mixture on `device`, and everything else there; for inference.

    dtype     to compute in; None: as `model` has it.
    weights   where the experts' weights are, by our names; None: where `model` has them, in memory or in a file that
              `load(folder, "stored")` has mapped. `to_our_names` of `read_weights` maps a file anew for every tensor
              that is asked for, so that its pages stay in memory no longer than copying it takes.

    The result is, bit for bit, that of the model on `device` in `dtype`. Its `state_dict` is without the experts.
    `model` stays as it is. ValueError for a model without mixtures, and for fewer than one resident expert.
    """
    if resident < 1:
        raise ValueError(f"an expert must be resident to compute: resident is 1 or more, got {resident}")
    mixtures = {name: part for name, part in model.named_modules() if isinstance(part, MixtureOfExperts)}
    if not mixtures:
        raise ValueError("this model has no mixtures of experts: there is nothing to offload")
    if any(isinstance(mixture, OffloadedMixture) for mixture in mixtures.values()):
        raise ValueError("the experts are offloaded already: begin with the model that has them")
    counters = OffloadCounters()
    of_experts = {id(p) for mixture in mixtures.values() for p in mixture.experts.parameters()}

    def convert(tensor: Tensor) -> Tensor:
        if id(tensor) in of_experts:
            return tensor
        moved = tensor.detach().to(device, dtype if tensor.is_floating_point() else None)
        return nn.Parameter(moved, requires_grad=False) if isinstance(tensor, nn.Parameter) else moved

    offloaded = sharing_copy(model, convert)
    for name, mixture in mixtures.items():
        stored = {parameter.dtype for parameter in mixture.experts.parameters()}
        if dtype is None and len(stored) > 1:
            raise ValueError(f"the experts of {name} have several dtypes: give the one to compute in")
        make = partial(_empty_expert, mixture.config, mixture.router.in_features, device, dtype or stored.pop())
        ready = ReadyExperts(_experts_of(name, mixture, weights), resident, make, counters)
        copied = cast(MixtureOfExperts, offloaded.get_submodule(name))
        offloaded.set_submodule(name, OffloadedMixture(copied, ready))
    return offloaded.eval()


def _empty_expert(
    config: configs.MixtureOfExperts, width: int, device: torch.device | str, dtype: torch.dtype
) -> FeedForward:
    with torch.device("meta"):
        expert = FeedForward(config.expert, width).to(dtype)
    return expert.to_empty(device=device).requires_grad_(False).eval()


def offload_counters(model: Transformer) -> OffloadCounters:
    """The counters of a model that `offload_experts` gave, which continue counting; ValueError for another one."""
    for part in model.modules():
        if isinstance(part, OffloadedMixture):
            return part.ready.counters
    raise ValueError("no experts of this model are offloaded")


def _experts_of(name: str, mixture: MixtureOfExperts, weights: Mapping[str, Tensor] | None) -> Mapping[str, Tensor]:
    """The weights of one layer's experts by their names in the layer; ValueError where `weights` lacks some."""
    own = mixture.experts.state_dict()
    if weights is None:
        return own
    full = {part: f"{name}.experts.{part}" for part in own}
    if missing := [other for other in full.values() if other not in weights]:
        raise ValueError(f"the weights lack {', '.join(missing[:5])}")
    return LazyTensors({part: partial(weights.__getitem__, other) for part, other in full.items()})
