"""Collectives that gradients go through: each is a linear map over the devices of a group, with its own backward.

A tensor of such a group is *whole*, the same on each device, *partial*, a summand on each, or *divided*, a piece along
one dimension on each. The gradient of what is whole on every device may itself be whole, where all devices compute the
same with it, or partial, where each does a part of the work; so there are two backwards for one forward. In the letters
of Shoeybi et al. 2019, section 3, and Korthikanti et al. 2022, section 4.2.2:

    forward                  backward             function
    nothing                  all-reduce           `enter` (f)
    all-reduce               nothing              `add` (g)
    all-gather               reduce-scatter       `gather` (g of sequence parallelism)
    reduce-scatter           all-gather           `add_and_divide` (its adjoint, ḡ)
    own piece                all-gather           `divide`
    all-gather               own piece            `join`
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

Map = Callable[[Tensor], Tensor]


def enter(tensor: Tensor, group: ProcessGroup) -> Tensor:
    """Whole, to be used by each device for its part of the work: gradients are partial and summed."""
    return _apply(tensor, _same, partial(all_reduce, group=group))


def add(tensor: Tensor, group: ProcessGroup) -> Tensor:
    """Partial → whole."""
    return _apply(tensor, partial(all_reduce, group=group), _same)


def gather(tensor: Tensor, group: ProcessGroup, dim: int) -> Tensor:
    """Divided along `dim` → whole, to be used by each device for its part of the work."""
    return _apply(tensor, partial(all_gather, group=group, dim=dim), partial(reduce_scatter, group=group, dim=dim))


def add_and_divide(tensor: Tensor, group: ProcessGroup, dim: int) -> Tensor:
    """Partial → divided along `dim`."""
    return _apply(tensor, partial(reduce_scatter, group=group, dim=dim), partial(all_gather, group=group, dim=dim))


def divide(tensor: Tensor, group: ProcessGroup, dim: int) -> Tensor:
    """Whole → divided along `dim`."""
    return _apply(tensor, partial(own_piece, group=group, dim=dim), partial(all_gather, group=group, dim=dim))


def join(tensor: Tensor, group: ProcessGroup, dim: int) -> Tensor:
    """Divided along `dim` → whole, with which all devices compute the same."""
    return _apply(tensor, partial(all_gather, group=group, dim=dim), partial(own_piece, group=group, dim=dim))


def exchange(tensor: Tensor, group: ProcessGroup, sent: list[int], received: list[int]) -> Tensor:
    """The rows of `tensor` (sum of `sent`, …), the first `sent[0]` to device 0 and so on → (sum of `received`, …), in
    the order of the devices that they come from (an all-to-all); gradients go back the same way."""
    there = partial(all_to_all, group=group, sent=sent, received=received)
    return _apply(tensor, there, partial(all_to_all, group=group, sent=received, received=sent))


class _Collective(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, there: Map, back: Map) -> Tensor:
        ctx.back = back
        return there(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.back(gradients[0]), None, None


def _same(tensor: Tensor) -> Tensor:
    return tensor.view_as(tensor)


def _apply(tensor: Tensor, there: Map, back: Map) -> Tensor:
    return _Collective.apply(tensor, there, back)  # type: ignore[return-value]


# ---------------------------------------------------------------------------------------------------------------------
# Without gradients; none changes its argument, which a graph may hold on to


def all_reduce(tensor: Tensor, group: ProcessGroup, operation: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> Tensor:
    """The sum over the group, or another `operation`."""
    total = tensor.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, operation, group)
    return total


def all_gather(tensor: Tensor, group: ProcessGroup, dim: int) -> Tensor:
    """The pieces of all devices, in their order, along `dim`."""
    devices = group.size()
    pieces = tensor.new_empty(devices, *tensor.shape)
    call = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # its name before PyTorch 2.13
    call(pieces.flatten(0, 1), tensor.contiguous(), group)
    return torch.cat(pieces.unbind(), dim)


def reduce_scatter(tensor: Tensor, group: ProcessGroup, dim: int) -> Tensor:
    """This device's piece, along `dim`, of the sum; ValueError where the devices do not divide the dimension."""
    pieces = torch.stack(_pieces(tensor, group, dim))
    piece = torch.empty_like(pieces[0])
    call = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor  # its name before PyTorch 2.13
    call(piece, pieces.flatten(0, 1), group=group)
    return piece


def own_piece(tensor: Tensor, group: ProcessGroup, dim: int) -> Tensor:
    """This device's piece along `dim`; ValueError where the devices do not divide the dimension."""
    return _pieces(tensor, group, dim)[group.rank()].contiguous()


def all_to_all(tensor: Tensor, group: ProcessGroup, sent: list[int], received: list[int]) -> Tensor:
    """See `exchange`."""
    arrived = tensor.new_empty(sum(received), *tensor.shape[1:])
    dist.all_to_all_single(arrived, tensor.contiguous(), received, sent, group)
    return arrived


def _pieces(tensor: Tensor, group: ProcessGroup, dim: int) -> tuple[Tensor, ...]:
    length, devices = tensor.shape[dim], group.size()
    if length % devices:
        raise ValueError(f"a length of {length} is not divisible among {devices} devices: use a multiple of {devices}")
    return tensor.chunk(devices, dim)
