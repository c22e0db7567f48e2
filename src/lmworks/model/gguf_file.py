"""The GGUF container: metadata and tensors of one file, as llama.cpp stores them.

The `gguf` package dequantises the tensors. Its reader is not used: it makes an object of every array element, which for
a vocabulary of 49,152 tokens takes longer than all the weights together.

The layout, little-endian throughout: magic, version, number of tensors, number of metadata entries; the entries (name,
type, value); the tensors' names, shapes, types and offsets; then, aligned, their data.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class GgufTensor:
    """Where a tensor lies. `shape` is (rows, columns), the usual order; the file stores it reversed."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int  # from the start of the file, in bytes


@dataclass(frozen=True)
class GgufFile:
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]
    data: mmap.mmap

    def read(self, name: str) -> np.ndarray:
        """A tensor as float32, in memory of its own."""
        tensor = self.tensors[name]
        block, size = GGML_QUANT_SIZES[tensor.kind]  # values per block, bytes per block
        columns = tensor.shape[-1]
        rows = int(np.prod(tensor.shape[:-1]))
        raw = np.frombuffer(self.data, np.uint8, rows * columns // block * size, tensor.offset)
        values = gguf.dequantize(raw.reshape(rows, -1), tensor.kind)
        # A float32 tensor comes back as a view of the file, which must not be written to.
        return np.require(values, requirements=["C", "W"]).reshape(tensor.shape)


def open_gguf(path: Path) -> GgufFile:
    """Reads the metadata and maps the data; ValueError for a file that is no GGUF file of version 2 or 3."""
    with path.open("rb") as stream:
        data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    cursor = _Cursor(data)
    magic, version, tensor_count, entry_count = cursor.unpack("4sIQQ")
    if magic != b"GGUF" or version not in (2, 3):
        raise ValueError(f"{path} is not a GGUF file of version 2 or 3")
    metadata = {cursor.string(): cursor.value(cursor.unpack("I")[0]) for _ in range(entry_count)}
    entries = [_tensor_entry(cursor) for _ in range(tensor_count)]
    alignment = metadata.get("general.alignment", 32)
    start = -(-cursor.position // alignment) * alignment
    tensors = {name: GgufTensor(name, shape, kind, start + offset) for name, shape, kind, offset in entries}
    return GgufFile(metadata, tensors, data)


def _tensor_entry(cursor: "_Cursor") -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
    name = cursor.string()
    dimensions = cursor.unpack("I")[0]
    shape = cursor.unpack(f"{dimensions}Q")[::-1]
    kind, offset = cursor.unpack("IQ")
    return name, shape, GGMLQuantizationType(kind), offset


class _Cursor:
    """Reads values one after the other."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self.position = data, 0

    def unpack(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + layout, self._data, self.position)
        self.position += struct.calcsize("<" + layout)
        return values

    def string(self) -> str:
        (length,) = self.unpack("Q")
        start = self.position
        self.position += length
        return self._data[start : self.position].decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            element, count = self.unpack("IQ")
            if element in _SCALARS:
                return list(self.unpack(f"{count}{_SCALARS[element]}"))
            return [self.value(element) for _ in range(count)]
        if kind in _SCALARS:
            return self.unpack(_SCALARS[kind])[0]
        raise ValueError(f"unknown GGUF value type {kind}: the file is damaged or newer than this reader")
