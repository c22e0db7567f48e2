"""Weight formats: exactly as floats, or quantised to int8 or int4 with a scale for each 32 weights.

    float32, bfloat16   the values themselves
    int8                value = scale · q,             q in -128 … 127, symmetric
    int4                value = scale · q + minimum,   q in 0 … 15

A group is 32 neighbouring columns of one row; its scale and minimum are float16. These are the block formats that GGUF
files call Q8_0 and Q4_1 (and Q4_0, where the minimum is -8 · scale), so such files are read as they are, without a
detour through floats that would round them again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Format = Literal["float32", "bfloat16", "int8", "int4"]
FORMATS: tuple[Format, ...] = get_args(Format)
GROUP = 32  # columns that share a scale


@dataclass(frozen=True)
class Quantised:
    """A matrix in one of the formats, row by row.

    values    (rows, columns): float32, bfloat16, int8, or uint8 in 0 … 15.
    scales    (rows, groups) float16, for the integer formats; the last group may be shorter.
    minimums  the same shape, for int4.
    """

    format: Format
    values: Tensor
    scales: Tensor | None = None
    minimums: Tensor | None = None

    @property
    def rows(self) -> int:
        return self.values.shape[0]

    @property
    def columns(self) -> int:
        return self.values.shape[1]


def quantise(weight: Tensor, format: Format) -> Quantised:  # noqa: A002 - the field's word
    """`weight` (rows, columns), any float dtype, in the given format, each group by its largest and smallest value.

    ValueError for values that are not finite, and for those whose scale no float16 can hold.
    """
    match format:
        case "float32" | "bfloat16":
            return Quantised(format, weight.to(getattr(torch, format)))
        case "int8":
            groups = _grouped(weight, "constant")
            scales = _half(groups.abs().amax(dim=-1) / 127)
            values = (groups / _divisor(scales)).round().clamp(-127, 127).to(torch.int8)
            return Quantised(format, _ungrouped(values, weight), scales)
        case "int4":
            groups = _grouped(weight, "replicate")
            minimums = _half(groups.amin(dim=-1))
            scales = _half((groups.amax(dim=-1) - minimums.float()).clamp(min=0) / 15)
            values = ((groups - minimums.float()[..., None]) / _divisor(scales)).round().clamp(0, 15).to(torch.uint8)
            return Quantised(format, _ungrouped(values, weight), scales, minimums)
        case unknown:
            raise ValueError(f"{unknown!r} is no format of weights; there are {', '.join(FORMATS)}")


def dequantise(matrix: Quantised) -> Tensor:
    """(rows, columns) float32."""
    values = matrix.values.float()
    if matrix.scales is not None:
        values = values * spread(matrix.scales, matrix.columns)
    if matrix.minimums is not None:
        values = values + spread(matrix.minimums, matrix.columns)
    return values


def spread(per_group: Tensor, columns: int) -> Tensor:
    """(rows, groups) → (rows, columns) float32: each column gets what belongs to its group."""
    return per_group.float().repeat_interleave(GROUP, dim=1)[:, :columns]


def stack(matrices: list[Quantised]) -> Quantised:
    """The rows of all parts, one below the other; ValueError unless they agree in format and columns."""
    if len({(matrix.format, matrix.columns) for matrix in matrices}) != 1:
        kinds = ", ".join(f"{matrix.columns} columns of {matrix.format}" for matrix in matrices)
        raise ValueError(f"only matrices of one format and as many columns can be stacked, not {kinds}")
    values = torch.cat([matrix.values for matrix in matrices])
    of_groups = zip(*((matrix.scales, matrix.minimums) for matrix in matrices), strict=True)
    return Quantised(matrices[0].format, values, *(None if kind[0] is None else torch.cat(kind) for kind in of_groups))


# ---------------------------------------------------------------------------------------------------------------------
# GGUF


def from_gguf(blocks: Tensor, kind: str, columns: int) -> Quantised:
    """The blocks of a GGUF tensor as they are: int8 from Q8_0, int4 from Q4_0 and Q4_1.

    blocks  (rows, bytes of a row) uint8.
    kind    the name of the type, in `gguf.GGMLQuantizationType`.

    ValueError for another type (dequantise it, then `quantise`), and for rows of the wrong length.
    """
    if kind not in BLOCK_FORMATS:
        raise ValueError(
            f"{kind} has no counterpart here, only {', '.join(BLOCK_FORMATS)}: dequantise it and call `quantise`"
        )
    _, size, read = BLOCK_FORMATS[kind]
    rows, width = blocks.shape
    if columns % GROUP or width != columns // GROUP * size:
        raise ValueError(f"a row of {columns} columns of {kind} takes whole blocks of {size} bytes, not {width} bytes")
    return read(blocks.reshape(rows, columns // GROUP, size))


def to_gguf(matrix: Quantised) -> tuple[str, Tensor]:
    """The inverse of `from_gguf`: the name of the type, and blocks (rows, bytes of a row) uint8. int4 is Q4_0 where
    every minimum is -8 · scale, and Q4_1 else. ValueError for floats, and for columns that are no whole blocks."""
    kind = gguf_kind(matrix)
    if matrix.columns % GROUP:
        raise ValueError(f"GGUF has blocks of {GROUP} columns, and these are {matrix.columns}: keep them as floats")
    assert matrix.scales is not None
    values = matrix.values.unflatten(1, (-1, GROUP))  # (rows, groups, 32)
    heads = [matrix.scales]
    if kind == "Q8_0":
        numbers = values.view(torch.uint8)
    else:
        numbers = values[..., : GROUP // 2] | values[..., GROUP // 2 :] << 4
        heads += [matrix.minimums] if kind == "Q4_1" and matrix.minimums is not None else []
    return kind, torch.cat([head.unsqueeze(-1).view(torch.uint8) for head in heads] + [numbers], dim=-1).flatten(1)


def gguf_kind(matrix: Quantised) -> str:
    """The name of the type in `gguf.GGMLQuantizationType`; ValueError for floats."""
    match matrix.format:
        case "int8":
            return "Q8_0"
        case "int4":
            assert matrix.scales is not None and matrix.minimums is not None
            return "Q4_0" if torch.equal(matrix.minimums, matrix.scales * -8) else "Q4_1"
        case floats:
            raise ValueError(f"{floats} is no format of blocks: int8 and int4 are")


def _read_q8_0(blocks: Tensor) -> Quantised:
    """A block is a float16 scale and 32 int8."""
    return Quantised("int8", blocks[..., 2:].contiguous().view(torch.int8).flatten(1), _float16(blocks, 0))


def _read_q4_0(blocks: Tensor) -> Quantised:
    """A block is a float16 scale and 32 nibbles; the value is scale · (q - 8)."""
    scales = _float16(blocks, 0)
    return Quantised("int4", _nibbles(blocks[..., 2:]), scales, _exact_product(-8, scales))


def _read_q4_1(blocks: Tensor) -> Quantised:
    """A block is a float16 scale, a float16 minimum, and 32 nibbles."""
    return Quantised("int4", _nibbles(blocks[..., 4:]), _float16(blocks, 0), _float16(blocks, 2))


# GGUF's types that are ours as they are: our format, bytes of a block of 32 values, and its reader.
BLOCK_FORMATS: dict[str, tuple[Format, int, Callable[[Tensor], Quantised]]] = {
    "Q8_0": ("int8", 34, _read_q8_0),
    "Q4_0": ("int4", 18, _read_q4_0),
    "Q4_1": ("int4", 20, _read_q4_1),
}


def _float16(blocks: Tensor, offset: int) -> Tensor:
    """The float16 at `offset` of each block: (rows, groups, bytes) → (rows, groups)."""
    return blocks[..., offset : offset + 2].contiguous().view(torch.float16).squeeze(-1)


def _nibbles(packed: Tensor) -> Tensor:
    """(rows, groups, 16) bytes → (rows, columns): low halves are values 0 … 15 of a group, high ones 16 … 31."""
    return torch.cat((packed & 15, packed >> 4), dim=-1).flatten(1)


def _exact_product(factor: int, scales: Tensor) -> Tensor:
    """A power of two times float16 is exact, except where it leaves the range: ValueError."""
    product = scales * factor
    if product.isinf().any() and not scales.isinf().any():
        raise ValueError("a scale of this Q4_0 tensor is too large for float16 times 8: dequantise it, then `quantise`")
    return product


# ---------------------------------------------------------------------------------------------------------------------


def _grouped(weight: Tensor, padding: str) -> Tensor:
    """(rows, columns) → (rows, groups, 32) float32; "replicate" fills up with values that widen no group's range."""
    missing = -weight.shape[1] % GROUP
    padded = weight.float()
    if missing:
        padded = F.pad(padded[None], (0, missing), mode=padding)[0]
    return padded.unflatten(1, (-1, GROUP))


def _ungrouped(groups: Tensor, weight: Tensor) -> Tensor:
    return groups.flatten(1)[:, : weight.shape[1]].contiguous()


def _half(values: Tensor) -> Tensor:
    half = values.to(torch.float16)
    if not half.isfinite().all():
        raise ValueError("a group of weights is not finite, or too large for a float16 scale: keep them as bfloat16")
    return half


def _divisor(scales: Tensor) -> Tensor:
    """(rows, groups, 1) float32; where a scale is 0, all values are the same, whatever they are divided by."""
    scales = scales.float()[..., None]
    return torch.where(scales == 0, 1.0, scales)
