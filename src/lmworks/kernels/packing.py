"""Matrices in the memory layout of the kernels, which compute 32 results at a time, one in each lane of two vectors.

Rows are padded to whole blocks of 32, columns to whole groups of 32. A matrix is [block][group][bytes of a group], so
that a product reads memory from front to back, and the bytes of a group of 32 columns are

    float32    [32 columns][32 rows]
    bfloat16   [16][32 rows][2 columns]     pairs feed a product of pairs
    int8       [8][32 rows][4 columns]      as uint8 q + 128: fours feed an unsigned times signed product
               [32 rows]                    float16 scales
    int4       [4][32 rows][4 bytes]        of eight columns: 0 … 3 in the low nibbles, 4 … 7 in the high ones
               [2][32 rows]                 float16 scales, then minimums
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lmworks.kernels.weight_formats import GROUP, Format, Quantised, dequantise, quantise, stack

BLOCK = 32  # rows


@dataclass(frozen=True, eq=False)
class PackedMatrix:
    """A matrix, and perhaps a bias, in the kernels' layout. Multiplying is `x @ weight.T + bias`.

    rows, columns  of the matrix itself, without the padding.
    values         (blocks, groups, bytes) uint8.
    bias           (rows,) float32.
    """

    format: Format
    rows: int
    columns: int
    values: Tensor
    bias: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that are read for each product."""
        return self.values.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def __deepcopy__(self, memo: object) -> "PackedMatrix":
        """Itself: it is a value, which a copy of a model shares."""
        return self

    def part(self, rows: slice = slice(None), columns: slice = slice(None)) -> "PackedMatrix":
        """A view of some rows and columns, without the bias. The slices are cut at multiples of 32, or at the end."""
        down, across = range(self.rows)[rows], range(self.columns)[columns]
        blocks = slice(down.start // BLOCK, -(-down.stop // BLOCK))
        groups = slice(across.start // GROUP, -(-across.stop // GROUP))
        return replace(self, rows=len(down), columns=len(across), values=self.values[blocks, groups], bias=None)

    def dequantise(self, rows: Tensor | None = None) -> Tensor:
        """(rows, columns) float32, or the rows with these numbers, in their order."""
        if rows is None:
            return dequantise(unpack(self))
        blocks = self.values[rows.long() // BLOCK]
        picked = dequantise(unpack(replace(self, rows=len(rows) * BLOCK, values=blocks)))  # (32 · numbers, columns)
        return picked[torch.arange(len(rows), device=rows.device) * BLOCK + rows.long() % BLOCK]

    @cached_property
    def dense(self) -> Tensor:
        """`dequantise()`, kept: for computing without the kernels, where unpacking each time would be slower still."""
        return self.dequantise()


def pack(matrix: Quantised, bias: Tensor | None = None) -> PackedMatrix:
    """Rearranges; `bias` (rows,) of any float dtype."""
    values = _pad(matrix.values, BLOCK, GROUP)
    match matrix.format:
        case "float32" | "bfloat16":
            tensors = [_interleave(values)]
        case "int8":
            tensors = [_interleave((values.to(torch.int16) + 128).to(torch.uint8))]
        case "int4":
            eights = values.unflatten(1, (-1, 2, 4))  # (rows, columns / 8, half, 4)
            tensors = [_interleave((eights[:, :, 0] | eights[:, :, 1] << 4).flatten(1), GROUP // 2)]
    tensors += [_per_group(kind) for kind in (matrix.scales, matrix.minimums) if kind is not None]
    bias = None if bias is None else bias.float().contiguous()
    return PackedMatrix(
        matrix.format, matrix.rows, matrix.columns, torch.cat(tensors, dim=2) if tensors[1:] else tensors[0], bias
    )


def unpack(matrix: PackedMatrix) -> Quantised:
    """The inverse of `pack`; the bias is not part of the result."""
    count = {"float32": 4, "bfloat16": 2, "int8": 1, "int4": 0.5}[matrix.format] * GROUP * BLOCK
    numbers, behind = matrix.values.split((int(count), matrix.values.shape[2] - int(count)), dim=2)
    match matrix.format:
        case "float32" | "bfloat16":
            values = _deinterleave(numbers.contiguous().view(getattr(torch, matrix.format)))
        case "int8":
            values = (_deinterleave(numbers).to(torch.int16) - 128).to(torch.int8)
        case "int4":
            fours = _deinterleave(numbers).unflatten(1, (-1, 1, 4))  # of every eight columns, both halves in a byte
            values = torch.cat((fours & 15, fours >> 4), dim=2).flatten(1)
    values = values[: matrix.rows, : matrix.columns].contiguous()
    kinds = behind.contiguous().view(torch.float16).unflatten(2, (-1, BLOCK))  # (blocks, groups, 0 … 2, 32)
    per_row = kinds.permute(2, 0, 3, 1).flatten(1, 2)[:, : matrix.rows]  # (0 … 2, rows, groups)
    return Quantised(matrix.format, values, *per_row.contiguous())


def pack_weight(weight: Tensor, format: Format, bias: Tensor | None = None) -> PackedMatrix:  # noqa: A002
    """`weight` (rows, columns), of any float dtype, quantised and packed."""
    return pack(quantise(weight, format), bias)


def concatenate(matrices: Sequence[PackedMatrix], multiple: int = 1) -> PackedMatrix:
    """The rows of all parts as one matrix, each part filled up with rows of zeros to a multiple of `multiple` rows.

    Queries, keys and values; gate and up (with `multiple=32`, which the gated product needs). ValueError unless they
    agree in format and columns, and either all have a bias or none.
    """
    if len({matrix.bias is None for matrix in matrices}) != 1:
        raise ValueError("either all the matrices that are put together have a bias or none: give zeros to the others")
    biases = [F.pad(matrix.bias, (0, -matrix.rows % multiple)) for matrix in matrices if matrix.bias is not None]
    bias, rows = torch.cat(biases) if biases else None, [matrix.rows + -matrix.rows % multiple for matrix in matrices]
    same = len({(matrix.format, matrix.columns) for matrix in matrices}) == 1
    if same and not any(count % BLOCK for count in rows[:-1]):  # whole blocks stay as they are
        return replace(matrices[0], rows=sum(rows), values=torch.cat([matrix.values for matrix in matrices]), bias=bias)
    filled: list[Quantised] = []
    for matrix in map(unpack, matrices):
        tensors = (None if kind is None else _pad(kind, multiple, 1) for kind in (matrix.scales, matrix.minimums))
        filled.append(Quantised(matrix.format, _pad(matrix.values, multiple, 1), *tensors))
    return pack(stack(filled), bias)


def _interleave(values: Tensor, width: int = GROUP) -> Tensor:
    """(rows, columns) → (blocks, groups, bytes): what shares a lane of 4 bytes stays together, then come the rows.

    width  how many stored columns a group has: half as many where two share a byte.
    """
    run = 4 // values.element_size()
    cut = values.view(-1, BLOCK, values.shape[1] // width, width // run, run)  # (blocks, 32, groups, steps, run)
    return cut.permute(0, 2, 3, 1, 4).flatten(2).view(torch.uint8)


def _deinterleave(numbers: Tensor) -> Tensor:
    """The inverse: (blocks, groups, numbers of a group) → (rows, columns)."""
    run = 4 // numbers.element_size()
    cut = numbers.unflatten(2, (-1, BLOCK, run))  # (blocks, groups, steps, 32, run)
    return cut.permute(0, 3, 1, 2, 4).flatten(2).flatten(0, 1)


def _per_group(kind: Tensor) -> Tensor:
    """Scales or minimums (rows, groups) float16 → (blocks, groups, bytes)."""
    return _pad(kind, BLOCK, 1).unflatten(0, (-1, BLOCK)).transpose(1, 2).contiguous().view(torch.uint8)


def _pad(tensor: Tensor, rows: int, columns: int) -> Tensor:
    """Zeros below and on the right, up to multiples."""
    missing = (0, -tensor.shape[1] % columns, 0, -tensor.shape[0] % rows)
    return F.pad(tensor, missing) if any(missing) else tensor.contiguous()
