"""Formats of weights: what rounding may cost, GGUF's blocks bit by bit, and the kernels' layout there and back."""

import gguf
import numpy as np
import pytest
import torch
from gguf.constants import GGMLQuantizationType
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.kernels.packing import PackedMatrix, concatenate, pack, pack_weight, unpack
from lmworks.kernels.weight_formats import FORMATS, Format, Quantised, dequantise, from_gguf, quantise, spread

shapes = st.tuples(st.integers(1, 70), st.integers(1, 100))
formats = st.sampled_from(FORMATS)


def weights(shape: tuple[int, int], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def same(one: Quantised, other: Quantised) -> bool:
    pairs = zip((one.values, one.scales, one.minimums), (other.values, other.scales, other.minimums), strict=True)
    return one.format == other.format and all(
        torch.equal(a, b) if a is not None and b is not None else a is b for a, b in pairs
    )


@given(shapes, st.integers(0, 99), st.sampled_from(["int8", "int4"]))
def test_rounding_costs_half_a_step(shape: tuple[int, int], seed: int, format_: Format) -> None:
    weight = weights(shape, seed)
    matrix = quantise(weight, format_)
    assert matrix.scales is not None
    step = spread(matrix.scales, matrix.columns)
    # Half a step, and what float16 rounds of scale and minimum: 2^-11 of up to 15 steps, 127 steps or the minimum.
    slack = step * 127 * 2**-11 + weight.abs().max() * 2**-10
    assert ((dequantise(matrix) - weight).abs() <= step / 2 + slack).all()


@for_each("format_", FORMATS)
def test_a_matrix_of_zeros_stays_zero(format_: Format) -> None:
    assert not dequantise(quantise(torch.zeros(3, 40), format_)).any()


def test_constant_groups_are_exact_in_int4() -> None:
    weight = torch.full((2, 64), 0.3125)
    assert torch.equal(dequantise(quantise(weight, "int4")), weight)


@for_each("format_", ["int8", "int4"])
@for_each("bad", [float("nan"), float("inf"), 1e8])
def test_what_no_scale_can_hold_is_refused(format_: Format, bad: float) -> None:
    weight = torch.ones(2, 32)
    weight[1, 3] = bad
    with pytest.raises(ValueError, match="bfloat16"):
        quantise(weight, format_)


def test_an_unknown_format_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="float32, bfloat16, int8, int4"):
        quantise(torch.ones(1, 1), "int5")  # type: ignore[arg-type]


@for_each("kind", ["Q8_0", "Q4_0", "Q4_1"])
def test_gguf_blocks_mean_what_gguf_says(kind: str) -> None:
    rows, columns = 5, 96
    type_ = GGMLQuantizationType[kind]
    block, size = gguf.GGML_QUANT_SIZES[type_]
    generator = np.random.default_rng(0)
    raw = generator.integers(0, 256, (rows, columns // block, size), dtype=np.uint8)  # every value of every number
    scales = generator.normal(size=(rows, columns // block, 2)).astype(np.float16)
    raw[..., : 4 if kind == "Q4_1" else 2] = scales[..., : 2 if kind == "Q4_1" else 1].copy().view(np.uint8)
    raw = raw.reshape(rows, -1)
    matrix = from_gguf(torch.from_numpy(raw), kind, columns)
    assert torch.equal(dequantise(matrix), torch.from_numpy(gguf.dequantize(raw, type_)))
    assert torch.equal(pack(matrix).dequantise(), dequantise(matrix))


def test_gguf_types_without_a_counterpart_are_refused() -> None:
    with pytest.raises(ValueError, match="dequantise it and call `quantise`"):
        from_gguf(torch.zeros(1, 144, dtype=torch.uint8), "Q4_K", 256)
    with pytest.raises(ValueError, match="34 bytes"):
        from_gguf(torch.zeros(1, 33, dtype=torch.uint8), "Q8_0", 32)


@given(shapes, formats)
def test_unpacking_is_the_inverse_of_packing(shape: tuple[int, int], format_: Format) -> None:
    matrix = quantise(weights(shape, 1), format_)
    assert same(unpack(pack(matrix)), matrix)


@given(shapes, formats, st.data())
def test_single_rows_are_those_of_the_matrix(shape: tuple[int, int], format_: Format, data: st.DataObject) -> None:
    matrix = pack_weight(weights(shape, 2), format_)
    numbers = torch.tensor(data.draw(st.lists(st.integers(0, shape[0] - 1), min_size=1, max_size=9)))
    assert torch.equal(matrix.dequantise(numbers), matrix.dequantise()[numbers])


@given(st.lists(st.integers(1, 50), min_size=1, max_size=4), formats, st.sampled_from([1, 32]))
def test_parts_are_joined_by_rows(heights: list[int], format_: Format, multiple: int) -> None:
    parts = [pack_weight(weights((height, 40), i), format_, torch.ones(height)) for i, height in enumerate(heights)]
    joined, start = concatenate(parts, multiple), 0
    for part in parts:
        end = start + part.rows
        filled = start + -(-part.rows // multiple) * multiple
        assert torch.equal(joined.dequantise()[start:end], part.dequantise())
        assert not joined.dequantise()[end:filled].any()
        assert joined.bias is not None and joined.bias[start:end].all() and not joined.bias[end:filled].any()
        start = filled
    assert joined.rows == start


def test_parts_must_agree() -> None:
    def part(format_: Format, columns: int, bias: torch.Tensor | None = None) -> PackedMatrix:
        return pack_weight(torch.ones(4, columns), format_, bias)

    with pytest.raises(ValueError, match="one format and as many columns"):
        concatenate([part("int8", 32), part("int4", 32)])
    with pytest.raises(ValueError, match="one format and as many columns"):
        concatenate([part("int8", 32), part("int8", 64)])
    with pytest.raises(ValueError, match="bias"):
        concatenate([part("int8", 32), part("int8", 32, torch.ones(4))])


@for_each(("format_", "bits"), [("float32", 32), ("bfloat16", 16), ("int8", 8.5), ("int4", 5)])
def test_size_in_memory(format_: Format, bits: float) -> None:
    assert pack_weight(torch.ones(64, 128), format_).nbytes == 64 * 128 * bits / 8
