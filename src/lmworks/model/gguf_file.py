"""The GGUF container: metadata and tensors of one file, as llama.cpp stores them.

The `gguf` package dequantises the tensors. Its reader is not used: it makes an object of every array element, which for
a vocabulary of 49,152 tokens takes longer than all the weights together.

The layout, little-endian throughout: magic, version, number of tensors, number of metadata entries; the entries (name,
type, value); the tensors' names, shapes, types and offsets; then, aligned, their data.
"""

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from torch import Tensor

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_PIECE = 1 << 18  # values dequantised at a time: 1 MiB as float32, which stays in the cache


@dataclass(frozen=True)
class GgufTensor:
    """A tensor's place in the file. `shape` is (…, rows, columns), the usual order; the file stores it reversed."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int  # from the start of the file, in bytes

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns; blocks of quantised values lie along a row. A vector is one row, or, plain, one column."""
        if len(self.shape) == 1 and GGML_QUANT_SIZES[self.kind][0] == 1:
            return self.shape[0], 1
        return prod(self.shape[:-1]), self.shape[-1]

    @property
    def row_bytes(self) -> int:
        block, size = GGML_QUANT_SIZES[self.kind]  # values per block, bytes per block
        return self.matrix[1] // block * size


@dataclass(frozen=True)
class GgufFile:
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]
    data: mmap.mmap | bytes

    def need(self, key: str, kind: type) -> Any:
        """A metadata value of the given type; ValueError names the key where it is missing or of another type."""
        value = self.metadata.get(key)
        if kind is int and isinstance(value, list) and len(set(value)) == 1:
            value = value[0]  # one number for every layer, all the same
        if not isinstance(value, kind):
            raise ValueError(f"the GGUF file needs {key} of type {kind.__name__}, and has {value!r}")
        return value

    def read(self, name: str, rows: slice = slice(None)) -> Tensor:
        """`rows` of a tensor seen as a matrix, (rows, columns) float32, dequantised piece by piece, in memory of its
        own. ValueError names a tensor whose type cannot be dequantised."""
        tensor = self.tensors[name]
        (count, columns), size = tensor.matrix, tensor.row_bytes
        first, end, _ = rows.indices(count)
        result = torch.empty(end - first, columns)
        step = max(1, _PIECE // columns)
        for start in range(first, end, step):
            height = min(step, end - start)
            raw = np.frombuffer(self.data, np.uint8, height * size, tensor.offset + start * size)
            try:
                values = gguf.dequantize(raw[None], tensor.kind)  # as one long row: it loops over rows in Python
            except NotImplementedError as error:
                raise ValueError(f"tensor {name}: {tensor.kind.name} cannot be dequantised") from error
            writable = np.require(values, requirements=["W"])  # plain float32 is a view of the read-only file
            result[start - first : start - first + height] = torch.from_numpy(writable).view(height, columns)
        return result

    def raw(self, name: str, rows: slice = slice(None)) -> Tensor:
        """`rows` of a tensor as they are stored, (rows, bytes of a row) uint8, in memory of their own."""
        tensor = self.tensors[name]
        first, end, _ = rows.indices(tensor.matrix[0])
        size = tensor.row_bytes
        stored = np.frombuffer(self.data, np.uint8, (end - first) * size, tensor.offset + first * size)
        return torch.from_numpy(stored.reshape(end - first, size).copy())

    def release(self) -> None:
        """Let the system have back the memory of what was read; it is read from the file again when it is needed."""
        if isinstance(self.data, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            self.data.madvise(mmap.MADV_DONTNEED)


def open_gguf(path: Path) -> GgufFile:
    """Reads the metadata and maps the data.

    ValueError for a file that is no GGUF file of version 2 or 3, or that is damaged or truncated, naming the place.
    """
    with path.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise ValueError(f"{path} is not a GGUF file: it does not begin with the letters GGUF")
        data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    cursor = _Cursor(data)
    try:
        _, version, tensor_count, entry_count = cursor.unpack("4sIQQ")
        if version not in (2, 3):
            raise ValueError(f"version {version} of GGUF is not supported; supported: 2 and 3, little-endian")
        metadata = {cursor.string(): cursor.value(cursor.unpack("I")[0]) for _ in range(entry_count)}
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"general.alignment = {alignment!r} is not a positive number")
        entries = [_tensor_entry(cursor) for _ in range(tensor_count)]
        start = -(-cursor.position // alignment) * alignment
        tensors = {name: GgufTensor(name, shape, kind, start + offset) for name, shape, kind, offset in entries}
        if len(tensors) < tensor_count or len(metadata) < entry_count:
            raise ValueError("a name occurs twice")
        for tensor in tensors.values():
            rows, columns = tensor.matrix
            if rows * columns == 0 or columns % GGML_QUANT_SIZES[tensor.kind][0]:
                raise ValueError(f"tensor {tensor.name} of shape {tensor.shape} cannot be stored as {tensor.kind.name}")
            if (end := tensor.offset + rows * tensor.row_bytes) > len(data):
                raise ValueError(f"the file ends at byte {len(data)}, before tensor {tensor.name} does at byte {end}")
    except (ValueError, struct.error) as error:
        raise ValueError(f"{path} is damaged or not supported, near byte {cursor.position}: {error}") from error
    return GgufFile(metadata, tensors, data)


def _tensor_entry(cursor: "_Cursor") -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
    name = cursor.string()
    dimensions = cursor.unpack("I")[0]
    if not 1 <= dimensions <= 4:
        raise ValueError(f"tensor {name} has {dimensions} dimensions, not 1 to 4")
    shape = cursor.unpack(f"{dimensions}Q")[::-1]
    kind, offset = cursor.unpack("IQ")
    if kind not in list(GGMLQuantizationType):
        raise ValueError(f"tensor {name} has the unknown quantisation type {kind}")
    return name, shape, GGMLQuantizationType(kind), offset


class _Cursor:
    """Reads values one after the other; struct.error or ValueError where the file ends too early."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self.position = data, 0

    def unpack(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + layout, self._data, self.position)
        self.position += struct.calcsize("<" + layout)
        return values

    def string(self) -> str:
        (length,) = self.unpack("Q")
        text = self._data[self.position : self.position + length]
        if len(text) < length:
            raise ValueError(f"a text of {length} bytes reaches past the end")
        self.position += length
        return text.decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind in _SCALARS:
            return self.unpack(_SCALARS[kind])[0]
        if kind != _ARRAY:
            raise ValueError(f"unknown type {kind} of a metadata value")
        element, count = self.unpack("IQ")
        if element in _SCALARS:
            return list(self.unpack(f"{count}{_SCALARS[element]}"))
        if element != _STRING:
            raise ValueError(f"an array of the type {element}")
        return [self.string() for _ in range(count)]
