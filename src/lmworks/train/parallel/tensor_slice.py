"""The slice of a whole weight that a process holds, and the gathering of all slices into the whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from lmworks.train.parallel.ranks import Ranks


class TensorSlice(NamedTuple):
    """The box of `size` that begins at `start` in a weight of the shape `whole`."""

    whole: tuple[int, ...]
    start: tuple[int, ...]
    size: tuple[int, ...]

    @property
    def slices(self) -> tuple[slice, ...]:
        return tuple(slice(start, start + size) for start, size in zip(self.start, self.size, strict=True))

    def rows(self, first: int, count: int) -> "TensorSlice":
        """Some rows of the part."""
        return TensorSlice(self.whole, (self.start[0] + first, *self.start[1:]), (count, *self.size[1:]))


def slice_of(weight: Tensor) -> TensorSlice:
    """The slice that this process holds: all of a plain tensor, and what its placements say of a DTensor."""
    if not isinstance(weight, DTensor):
        return TensorSlice(tuple(weight.shape), (0,) * weight.dim(), tuple(weight.shape))
    size, start = compute_local_shape_and_global_offset(weight.shape, weight.device_mesh, weight.placements)
    return TensorSlice(tuple(weight.shape), tuple(start), tuple(size))


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds, as a plain one that shares its memory and has no gradient."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def full_tensor_of(values: Tensor, weight: Tensor) -> Tensor:
    """The whole tensor of which `values` are what this process holds, divided as `weight` is. All its devices call
    it."""
    if not isinstance(weight, DTensor):
        return values
    placed = DTensor.from_local(
        values, weight.device_mesh, weight.placements, run_check=False, shape=weight.shape, stride=weight.stride()
    )
    return placed.full_tensor()


@dataclass(frozen=True, slots=True)
class Held:
    """Who holds what, the same on all processes.

    holders  (name, part) → the ranks that hold it, ascending. The first of them is its owner, who writes the part where
             it is written once.
    dtypes   of the weights, by name.
    """

    holders: Mapping[tuple[str, TensorSlice], tuple[int, ...]]
    dtypes: Mapping[str, torch.dtype]

    def copies(self, name: str, part: TensorSlice) -> int:
        return len(self.holders[name, part])

    def owner(self, name: str, part: TensorSlice) -> int:
        return self.holders[name, part][0]


def find_holders(parts: Mapping[str, TensorSlice], dtypes: Mapping[str, torch.dtype], ranks: Ranks) -> Held:
    """The holders of all slices, from those of each process; all processes call it."""
    if ranks.mesh is None:
        return Held(dict.fromkeys(parts.items(), (0,)), dtypes)
    everyone: list[Any] = [None] * ranks.size
    dist.all_gather_object(everyone, {name: (part, dtypes[name]) for name, part in parts.items()})
    holders: dict[tuple[str, TensorSlice], list[int]] = {}
    known: dict[str, torch.dtype] = {}
    for rank, found in enumerate(everyone):
        for name, (part, dtype) in found.items():
            holders.setdefault((name, part), []).append(rank)
            known[name] = dtype
    return Held({item: tuple(found) for item, found in holders.items()}, known)


def gather_whole(tensors: Mapping[str, Tensor], held: Held, ranks: Ranks) -> dict[str, Tensor]:
    """The whole weights, on the first process's CPU, as copies; nothing on the others. All processes call it.

    `tensors` are what this process holds of those in `held`. One part travels at a time.
    """
    whole: dict[str, Tensor] = {}
    for (name, part), (owner, *_) in held.holders.items():
        values = None
        if ranks.rank == owner:
            values = tensors[name].detach()
        if owner != 0 and prod(part.size):
            values = _sent_to_first(values, part, held.dtypes[name], owner, ranks)
        if ranks.first and values is not None:
            if name not in whole:
                whole[name] = torch.empty(part.whole, dtype=values.dtype)
            whole[name][part.slices] = values.cpu()
    return whole


def _sent_to_first(
    values: Tensor | None, part: TensorSlice, dtype: torch.dtype, owner: int, ranks: Ranks
) -> Tensor | None:
    if values is not None:
        dist.send(values.contiguous(), 0)
    elif ranks.first:
        values = torch.empty(part.size, dtype=dtype, device=ranks.device)
        dist.recv(values, owner)
    return values
