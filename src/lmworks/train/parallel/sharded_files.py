"""Files of tensors in parts: each process writes what it holds, and any number of processes read what they need.

A file is safetensors. Its header says of each divided tensor which part of the whole it is; one that is not mentioned
is whole. Names are the same in every layout, so what eight processes wrote, three can read, or one.
"""

import json
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from lmworks.model.tensor_files import write_tensor_file
from lmworks.train.parallel.tensor_slice import TensorSlice

_PARTS = "parts"  # in a file's header


def shard_name(name: str, rank: int, size: int) -> str:
    """`optimizers.safetensors` of one process, `optimizers-00003-of-00008.safetensors` of one of several."""
    return f"{name}.safetensors" if size == 1 else f"{name}-{rank:05d}-of-{size:05d}.safetensors"


class Shard(NamedTuple):
    """Tensors that one process writes, and which parts they are of the whole."""

    tensors: Mapping[str, Tensor]
    parts: Mapping[str, TensorSlice]


def write_shard(path: Path, shard: Shard) -> None:
    divided = {name: part for name, part in shard.parts.items() if part.size != part.whole}
    header = {_PARTS: json.dumps({name: [part.whole, part.start] for name, part in divided.items()})}
    write_tensor_file(dict(shard.tensors), path, header if divided else None)


def read_shards(folder: Path, name: str) -> dict[str, "Pieces"]:
    """The tensors of all files of one name, to be read part by part; none where there is no file.

    ValueError for a damaged file, for one that is missing of several, and for parts that leave holes.
    """
    paths = sorted(folder.glob(f"{name}-*-of-*.safetensors")) or sorted(folder.glob(f"{name}.safetensors"))
    if paths and len(paths) != (expected := _files(paths[0])):
        raise ValueError(f"{folder} holds {len(paths)} of the {expected} files of {name}")
    found: dict[str, list[tuple[Any, TensorSlice]]] = {}
    for path in paths:
        try:
            file: Any = safe_open(path, "pt")
            divided = json.loads((file.metadata() or {}).get(_PARTS, "{}"))
            for key in file.keys():  # noqa: SIM118 - a method of the file, which is no mapping
                size = tuple(file.get_slice(key).get_shape())
                whole, start = divided.get(key, (size, (0,) * len(size)))
                found.setdefault(key, []).append((file, TensorSlice(tuple(whole), tuple(start), size)))
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged: {error}") from error
    for key, pieces in found.items():
        if sum(prod(part.size) for _, part in pieces) != prod(pieces[0][1].whole):
            raise ValueError(f"{folder}: the parts of {key} are not those of the whole")
    return {key: Pieces(key, pieces) for key, pieces in found.items()}


def _files(path: Path) -> int:
    _, separator, count = path.stem.rpartition("-of-")
    return int(count) if separator else 1


class Pieces:
    """A whole tensor that lies in several files; `pieces[slices]` reads what is in the slices, and no more."""

    def __init__(self, key: str, pieces: Sequence[tuple[Any, TensorSlice]]) -> None:
        self.key, self.pieces, self.shape = key, pieces, pieces[0][1].whole

    def __getitem__(self, places: tuple[slice, ...]) -> Tensor:
        wanted = [place.indices(size)[:2] for place, size in zip(places, self.shape, strict=True)]
        if not wanted:
            return self.pieces[0][0].get_tensor(self.key)
        result = self._empty([max(high - low, 0) for low, high in wanted])
        for file, part in self.pieces:
            common = [
                (max(low, start), min(high, start + size))
                for (low, high), start, size in zip(wanted, part.start, part.size, strict=True)
            ]
            if all(low < high for low, high in common):
                there = tuple(slice(a - start, b - start) for (a, b), start in zip(common, part.start, strict=True))
                here = tuple(slice(a - low, b - low) for (a, b), (low, _) in zip(common, wanted, strict=True))
                result[here] = file.get_slice(self.key)[there]
        return result

    def _empty(self, size: Sequence[int]) -> Tensor:
        file, part = self.pieces[0]
        one = file.get_slice(self.key)[tuple(slice(0, 1) for _ in part.size)]
        return one.new_empty(size)
