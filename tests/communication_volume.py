"""Measured communication volume and memory of a process, to compare with the plan (`planning/communication.py`)."""

from math import prod
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lmworks.train.master_weights import Weights
from lmworks.train.parallel.tensor_slice import local


class CommunicationCounter(TorchDispatchMode):
    """Within the block, `sent` is the bytes that this process sends by each operation of `torch.distributed`.

    Collectives are counted as rings (Patarasu & Yuan 2009): an all-gather or a reduce-scatter of M bytes among n
    processes sends (n - 1) / n · M from each, an all-reduce twice that, whatever the backend does. Left out is what
    fewer than `least` values make: counts, flags, sums of losses, and the gradients of norms that sequence parallelism
    sums one by one.
    """

    def __init__(self, least: int = 100) -> None:
        super().__init__()
        self.least = least
        self.sent: dict[str, float] = {}

    @property
    def total(self) -> float:
        return sum(self.sent.values())

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), settings: dict[str, Any] | None = None
    ) -> Any:
        name = str(function)
        if name.startswith("c10d."):
            self._count(name.split(".")[1].strip("_"), arguments)
        return function(*arguments, **(settings or {}))

    def _count(self, name: str, arguments: tuple[Any, ...]) -> None:
        match name:
            case "allreduce":
                size, devices = _bytes(arguments[0]), dist.ProcessGroup.unbox(arguments[1]).size()
                sent = 2 * size * (devices - 1) / devices
            case "allgather_base" | "reduce_scatter_base":
                sizes = [_bytes(argument) for argument in arguments[:2]]
                sent = float(max(sizes) - min(sizes))
            case "alltoall_base":
                _, given, group, _, to = arguments[:5]
                group = dist.ProcessGroup.unbox(group)
                own = to[group.rank()] if to else len(given) // group.size()
                sent = float((len(given) - own) * prod(given.shape[1:]) * given.element_size())
            case "send":
                sent = float(_bytes(arguments[0]))
            case _:
                return
        first = arguments[0] if isinstance(arguments[0], Tensor) else arguments[0][0]
        if first.numel() >= self.least:
            self.sent[name] = self.sent.get(name, 0.0) + sent


def held_bytes(weights: Weights) -> dict[str, int]:
    """Bytes that this process holds now: the model's weights, their gradients, and the optimizer's masters and
    state, without the numbers that count its steps."""
    own = [local(weight) for weight in weights.model.parameters()]
    state = [value for value in weights.state().values() if value.dim()]
    masters = list(weights.masters.values()) if weights.low else []
    return {
        "weights": _bytes(own),
        "gradients": _bytes([gradient for _, gradient in weights.gradients()]),
        "optimizer": _bytes([*state, *masters]),
    }


def _bytes(tensors: Any) -> int:
    return tensors.nbytes if isinstance(tensors, Tensor) else sum(each.nbytes for each in tensors)
