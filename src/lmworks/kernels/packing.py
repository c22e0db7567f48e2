"""Matrices in the memory layout of the kernels, which compute 32 results at a time, one in each lane of two vectors.

Rows are padded to whole blocks of 32 and columns to whole groups of 32. Within a block of 32 rows:

    float32    [column][32 rows]
    bfloat16   [column / 2][32 rows][2]          pairs feed a product of pairs
    int8       [column / 4][32 rows][4]          as uint8 q + 128: fours feed an unsigned times signed product
    int4       [column / 8][32 rows][4]          low nibble: columns 0 … 3 of eight, high nibble: columns 4 … 7
    scales     [column / 32][32 rows]            float16, of int8
               [column / 32][2][32 rows]         scale, then minimum, of int4
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lmworks.kernels.formats import GROUP, Format, Quantised, dequantise, from_gguf, quantise, stack

BLOCK = 32  # rows


@dataclass(frozen=True, eq=False)
class PackedMatrix:
    """A matrix, and perhaps a bias, in the kernels' layout. Multiplying is `x @ weight.T + bias`.

    rows, columns  of the matrix itself, without the padding.
    values         flat uint8: the bytes of the blocks, in order.
    scales         flat float16, for int8 and int4.
    bias           (rows,) float32.
    """

    format: Format
    rows: int
    columns: int
    values: Tensor
    scales: Tensor | None = None
    bias: Tensor | None = None

    @property
    def padded_columns(self) -> int:
        return _round_up(self.columns, GROUP)

    @property
    def nbytes(self) -> int:
        """Bytes of the weights as they are read for each product."""
        return sum(tensor.nbytes for tensor in (self.values, self.scales, self.bias) if tensor is not None)

    def dequantise(self, rows: Tensor | None = None) -> Tensor:
        """(rows, columns) float32, or the rows with these numbers, in their order."""
        if rows is None:
            return dequantise(unpack(self))
        blocks = rows.long() // BLOCK
        picked = dequantise(unpack(self._blocks(blocks)))  # (32 · numbers, columns)
        return picked[torch.arange(len(rows), device=rows.device) * BLOCK + rows.long() % BLOCK]

    @cached_property
    def dense(self) -> Tensor:
        """`dequantise()`, kept: for computing without the kernels, where unpacking each time would be slower still."""
        return self.dequantise()

    def _blocks(self, blocks: Tensor) -> "PackedMatrix":
        """A matrix of the blocks with these numbers."""

        def pick(tensor: Tensor) -> Tensor:
            return tensor.view(_round_up(self.rows, BLOCK) // BLOCK, -1)[blocks].flatten()

        scales = None if self.scales is None else pick(self.scales)
        return replace(self, rows=len(blocks) * BLOCK, values=pick(self.values), scales=scales, bias=None)


def pack(matrix: Quantised, bias: Tensor | None = None) -> PackedMatrix:
    """Rearranges; `bias` (rows,) of any float dtype."""
    rows, columns = matrix.values.shape
    if bias is not None:
        bias = bias.float().contiguous()
    values = _pad(matrix.values, BLOCK, GROUP)
    match matrix.format:
        case "float32":
            packed = _interleave(values, 1)
        case "bfloat16":
            packed = _interleave(values, 2)
        case "int8":
            packed = _interleave((values.to(torch.int16) + 128).to(torch.uint8), 4)
        case "int4":
            eights = values.view(-1, BLOCK, values.shape[1] // 8, 2, 4)
            halves = eights[:, :, :, 0] | eights[:, :, :, 1] << 4
            packed = halves.transpose(1, 2).contiguous()  # (blocks, columns / 8, 32, 4)
    return PackedMatrix(matrix.format, rows, columns, packed.view(torch.uint8).flatten(), _pack_scales(matrix), bias)


def unpack(matrix: PackedMatrix) -> Quantised:
    """The inverse of `pack`; the bias is not part of the result."""
    rows, columns = _round_up(matrix.rows, BLOCK), matrix.padded_columns
    groups = columns // GROUP
    scales = minimums = None
    if matrix.scales is not None:
        kept = matrix.scales.view(rows // BLOCK, groups, -1, BLOCK).permute(2, 0, 3, 1).reshape(-1, rows, groups)
        scales, *others = (part[: matrix.rows] for part in kept)
        minimums = others[0] if others else None
    match matrix.format:
        case "float32" | "bfloat16":
            values = _deinterleave(matrix.values.view(getattr(torch, matrix.format)), rows, columns)
        case "int8":
            values = (_deinterleave(matrix.values, rows, columns).to(torch.int16) - 128).to(torch.int8)
        case "int4":
            halves = matrix.values.view(rows // BLOCK, columns // 8, BLOCK, 4).transpose(1, 2)
            values = torch.stack((halves & 15, halves >> 4), dim=3).reshape(rows, columns)
    values = values[: matrix.rows, : matrix.columns].contiguous()
    return Quantised(matrix.format, values, scales, minimums)


def pack_weight(weight: Tensor, format: Format, bias: Tensor | None = None) -> PackedMatrix:  # noqa: A002
    """`weight` (rows, columns), of any float dtype, quantised and packed."""
    return pack(quantise(weight, format), bias)


def pack_gguf(blocks: Tensor, kind: str, columns: int, bias: Tensor | None = None) -> PackedMatrix:
    """As `from_gguf`, packed."""
    return pack(from_gguf(blocks, kind, columns), bias)


def concatenate(parts: Sequence[PackedMatrix], multiple: int = 1) -> PackedMatrix:
    """The rows of all parts as one matrix, each part filled up with rows of zeros to a multiple of `multiple` rows.

    Queries, keys and values; gate and up (with `multiple=32`, which the gated product needs). ValueError unless they
    agree in format and columns, and either all have a bias or none.
    """
    if len({part.bias is None for part in parts}) != 1:
        raise ValueError("either all the matrices that are put together have a bias or none: give zeros to the others")
    biases = [F.pad(part.bias, (0, -part.rows % multiple)) for part in parts if part.bias is not None]
    filled = [_fill(unpack(part), multiple) for part in parts]
    return pack(stack(filled), torch.cat(biases) if biases else None)


def _fill(matrix: Quantised, multiple: int) -> Quantised:
    def pad(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else _pad(tensor, multiple, 1)

    return Quantised(matrix.format, _pad(matrix.values, multiple, 1), pad(matrix.scales), pad(matrix.minimums))


def _pack_scales(matrix: Quantised) -> Tensor | None:
    if matrix.scales is None:
        return None
    kinds = [matrix.scales] if matrix.minimums is None else [matrix.scales, matrix.minimums]
    together = torch.stack([_pad(kind, BLOCK, 1) for kind in kinds])  # (1 or 2, rows, groups)
    blocks = together.unflatten(1, (-1, BLOCK)).permute(1, 3, 0, 2)  # (blocks, groups, 1 or 2, 32)
    return blocks.contiguous().flatten()


def _interleave(values: Tensor, run: int) -> Tensor:
    """(rows, columns) → (blocks, columns / run, 32, run)."""
    return values.view(-1, BLOCK, values.shape[1] // run, run).transpose(1, 2).contiguous()


def _deinterleave(values: Tensor, rows: int, columns: int) -> Tensor:
    """The inverse of `_interleave`; the run follows from the width of a value: 4 bytes are one lane."""
    run = 4 // values.element_size()
    return values.view(rows // BLOCK, columns // run, BLOCK, run).transpose(1, 2).reshape(rows, columns)


def _pad(tensor: Tensor, rows: int, columns: int) -> Tensor:
    """Zeros below and on the right, up to multiples."""
    missing = (0, -tensor.shape[1] % columns, 0, -tensor.shape[0] % rows)
    return F.pad(tensor, missing) if any(missing) else tensor.contiguous()


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
