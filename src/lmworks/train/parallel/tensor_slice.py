"""The slices of whole weights that the processes hold, their gathering into the whole, and their files.

Each process writes what it holds, and any number of processes read what they need. A file is safetensors. Its header
says of each divided tensor which slice of the whole it is; one that is not mentioned is whole. Names are the same in
every layout, so what eight processes wrote, three can read, or one.
"""

import json
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from lmworks.model.tensor_files import write_tensor_file
from lmworks.train.parallel.ranks import Ranks

_PARTS = "parts"  # in a file's header


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


# (name, slice) of a weight → the ranks that hold it, ascending, the same on all processes. The first of them is its
# owner, who writes the slice where it is written once.
Holders = Mapping[tuple[str, TensorSlice], Sequence[int]]


def find_holders(slices: Mapping[str, TensorSlice], ranks: Ranks) -> Holders:
    """The holders of all slices, from those of each process; all processes call it."""
    if ranks.mesh is None:
        return dict.fromkeys(slices.items(), (0,))
    everyone: list[Any] = [None] * ranks.size
    dist.all_gather_object(everyone, dict(slices))
    holders: dict[tuple[str, TensorSlice], list[int]] = {}
    for rank, held in enumerate(everyone):
        for item in held.items():
            holders.setdefault(item, []).append(rank)
    return holders


def gather_whole(tensors: Mapping[str, Tensor], holders: Holders, ranks: Ranks) -> dict[str, Tensor]:
    """The whole weights, on the first process's CPU, as copies; nothing on the others. All processes call it.

    `tensors`, float32, are what this process holds of those in `holders`. One slice travels at a time.
    """
    whole: dict[str, Tensor] = {}
    for (name, piece), (owner, *_) in holders.items():
        values = tensors[name].detach() if ranks.rank == owner else None
        if owner != 0 and prod(piece.size):
            if values is not None:
                dist.send(values.contiguous(), 0)
            elif ranks.first:
                values = torch.empty(piece.size, device=ranks.device)
                dist.recv(values, owner)
        if ranks.first and values is not None:
            if name not in whole:
                whole[name] = torch.empty(piece.whole)
            whole[name][piece.slices] = values.cpu()
    return whole


# ---------------------------------------------------------------------------------------------------------------------
# Files


def shard_name(name: str, rank: int, size: int) -> str:
    """`optimizers.safetensors` of one process, `optimizers-00003-of-00008.safetensors` of one of several."""
    return f"{name}.safetensors" if size == 1 else f"{name}-{rank:05d}-of-{size:05d}.safetensors"


class Shard(NamedTuple):
    """Tensors that one process writes, and which parts they are of the whole."""

    tensors: Mapping[str, Tensor]
    parts: Mapping[str, TensorSlice]


def write_shard(path: Path, shard: Shard) -> None:
    divided = {name: piece for name, piece in shard.parts.items() if piece.size != piece.whole}
    header = {_PARTS: json.dumps({name: [piece.whole, piece.start] for name, piece in divided.items()})}
    write_tensor_file(dict(shard.tensors), path, header if divided else None)


def read_shards(folder: Path, name: str) -> dict[str, "Pieces"]:
    """The tensors of all files of one name, to be read part by part; none where there is no file.

    ValueError for a damaged file, for one that is missing of several, and for parts that leave holes.
    """
    paths = sorted(folder.glob(f"{name}-*-of-*.safetensors")) or sorted(folder.glob(f"{name}.safetensors"))
    _, _, files = paths[0].stem.rpartition("-of-") if paths else ("", "", "")
    if paths and len(paths) != (expected := int(files) if files.isdigit() else 1):
        raise ValueError(f"{folder} holds {len(paths)} of the {expected} files of {name}")
    tensors: dict[str, list[tuple[Any, TensorSlice]]] = {}
    for path in paths:
        try:
            file: Any = safe_open(path, "pt")
            divided = json.loads((file.metadata() or {}).get(_PARTS, "{}"))
            for key in file.keys():  # noqa: SIM118 - a method of the file, which is no mapping
                size = tuple(file.get_slice(key).get_shape())
                whole, start = divided.get(key, (size, (0,) * len(size)))
                tensors.setdefault(key, []).append((file, TensorSlice(tuple(whole), tuple(start), size)))
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged: {error}") from error
    for key, pieces in tensors.items():
        if sum(prod(piece.size) for _, piece in pieces) != prod(pieces[0][1].whole):
            raise ValueError(f"{folder}: the parts of {key} are not those of the whole")
    return {key: Pieces(key, pieces) for key, pieces in tensors.items()}


class Pieces:
    """A whole tensor that lies in several files; `pieces[slices]` reads what is in the slices, and no more."""

    def __init__(self, key: str, pieces: Sequence[tuple[Any, TensorSlice]]) -> None:
        self.key, self.pieces, self.shape = key, pieces, pieces[0][1].whole

    def __getitem__(self, slices: tuple[slice, ...]) -> Tensor:
        bounds = [part_slice.indices(size)[:2] for part_slice, size in zip(slices, self.shape, strict=True)]
        if not bounds:
            return self.pieces[0][0].get_tensor(self.key)
        value = self.pieces[0][0].get_slice(self.key)[tuple(slice(0, 1) for _ in bounds)]  # for its dtype
        result = value.new_empty([max(high - low, 0) for low, high in bounds])
        for file, piece in self.pieces:
            common = [
                (max(low, start), min(high, start + size))
                for (low, high), start, size in zip(bounds, piece.start, piece.size, strict=True)
            ]
            if all(low < high for low, high in common):
                there = tuple(slice(a - start, b - start) for (a, b), start in zip(common, piece.start, strict=True))
                here = tuple(slice(a - low, b - low) for (a, b), (low, _) in zip(common, bounds, strict=True))
                result[here] = file.get_slice(self.key)[there]
        return result
