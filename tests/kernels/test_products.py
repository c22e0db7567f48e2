"""Products against their definitions, and that the bits of a row depend on nothing but the row."""

import pytest
import single_kernels
import torch
import torch.nn.functional as F  # noqa: N812
from programs import random_matrix, random_norm

from kit.tables import for_each
from lmworks.kernels import fused_operations, reference
from lmworks.kernels.c_structures import ACTIVATIONS, Activation
from lmworks.kernels.library import Library
from lmworks.kernels.packing import concatenate, pack, pack_weight
from lmworks.kernels.weight_formats import FORMATS, Format, Quantised

SHAPES = [(1, 1), (16, 32), (33, 31), (50, 96), (97, 160)]
ROWS = [1, 2, 3, 4, 5, 6, 7, 13]


def rows(count: int, columns: int, seed: int = 0) -> torch.Tensor:
    """With a large and a vanishing group among them."""
    x = torch.randn(count, columns, generator=torch.Generator().manual_seed(seed))
    x[0, : columns // 2] *= 100
    x[-1, : min(32, columns)] = 0
    return x


@for_each("format_", FORMATS)
@for_each("shape", SHAPES)
def test_linear_is_its_definition(kernels: Library, format_: Format, shape: tuple[int, int]) -> None:
    matrix = random_matrix(torch.Generator().manual_seed(1), *shape, format_, bias=True)
    for count in ROWS:
        x = rows(count, shape[1])
        exact = reference.rounded(x, format_).double() @ matrix.dequantise().double().T + matrix.bias
        got = fused_operations.linear(x, matrix, kernels)
        # Only the order of the sums differs: 1e-6 of the largest product that could be.
        assert (got - exact).abs().max() <= 1e-6 * (x.abs().max() * shape[1] ** 0.5 + 1) * 4


@for_each("format_", FORMATS)
def test_a_row_does_not_depend_on_its_neighbours(kernels: Library, format_: Format) -> None:
    matrix, x = random_matrix(torch.Generator().manual_seed(2), 70, 96, format_), rows(300, 96)
    together = fused_operations.linear(x, matrix, kernels)
    for start, end in [(0, 1), (1, 3), (3, 10), (10, 45), (45, 300)]:
        assert torch.equal(fused_operations.linear(x[start:end], matrix, kernels), together[start:end])
    kernels.set_threads(1)
    assert torch.equal(fused_operations.linear(x, matrix, kernels), together)


def test_the_extremes_of_int8_do_not_overflow(kernels: Library) -> None:
    values = torch.tensor([-128, 127], dtype=torch.int8).repeat_interleave(32).repeat(8, 1)
    matrix = pack(Quantised("int8", values, torch.ones(8, 2, dtype=torch.float16)))
    x = torch.full((3, 64), 127.0)
    x[1] = -127.0
    x[2, 32:] = -127.0
    expected = x.double() @ values.double().T
    assert torch.equal(fused_operations.linear(x, matrix, kernels).double(), expected)


def test_the_extremes_of_int4_do_not_overflow(kernels: Library) -> None:
    half = torch.ones(8, 1, dtype=torch.float16)
    matrix = pack(Quantised("int4", torch.full((8, 32), 15, dtype=torch.uint8), half, -8 * half))
    x = torch.tensor([[127.0], [-127.0]]).expand(2, 32)
    assert torch.equal(fused_operations.linear(x, matrix, kernels), (x @ torch.full((32, 8), 7.0)))


@for_each("format_", FORMATS)
@for_each("kind", ["rms", "layer"])
def test_norm_linear_is_the_product_of_normed_rows(kernels: Library, format_: Format, kind: str) -> None:
    generator = torch.Generator().manual_seed(3)
    matrix, norm, x = random_matrix(generator, 40, 90, format_), random_norm(generator, 90, kind), rows(7, 90)
    got = single_kernels.norm_linear(x, norm, matrix, kernels)
    expected = reference.linear(reference.normalise(x, norm), matrix)
    # A last bit of the norm may round an activation to the next number: one step of many.
    step = {"float32": 1e-5, "bfloat16": 2**-8, "int8": 4 / 127, "int4": 4 / 127}[format_]
    assert (got - expected).abs().max() <= step


@for_each("format_", FORMATS)
def test_linear_add_adds_the_product(kernels: Library, format_: Format) -> None:
    matrix, x = random_matrix(torch.Generator().manual_seed(4), 45, 64, format_), rows(9, 64)
    residual = torch.randn(9, 45, generator=torch.Generator().manual_seed(5))
    got = single_kernels.linear_add(residual, x, matrix, kernels)
    assert torch.equal(got, residual + fused_operations.linear(x, matrix, kernels))


@for_each("activation", ACTIVATIONS)
@for_each("gated", [True, False])
def test_gated_product(kernels: Library, activation: Activation, gated: bool) -> None:
    generator, hidden, width = torch.Generator().manual_seed(6), 43, 64
    parts = [random_matrix(generator, hidden, width, "float32", bias=True) for _ in range(1 + gated)]
    norm, x = random_norm(generator, width), rows(8, width)
    got = single_kernels.norm_gated_linear(x, norm, concatenate(parts, 32), hidden, activation, gated, kernels)
    gate, *up = (reference.linear(reference.normalise(x, norm), part) for part in parts)
    expected = reference.ACTIVATIONS[activation](gate) * (up[0] if up else 1)
    assert torch.allclose(got, expected, rtol=1e-5, atol=2e-6)


def test_activations_over_their_whole_range(kernels: Library) -> None:
    """With the identity as matrix and no norm to speak of, the operation is the activation itself."""
    x = torch.cat((torch.linspace(-100, 100, 32 * 63), torch.tensor([0.0, 1e-30, -1e-30, 1e4, -1e4] + [0.0] * 27)))
    x = x.view(-1, 32)
    identity = pack_weight(torch.eye(32), "float32")
    for activation in ACTIVATIONS:
        norm = random_norm(torch.Generator().manual_seed(0), 32)
        normed = reference.normalise(x, norm)
        got = single_kernels.norm_gated_linear(x, norm, identity, 32, activation, False, kernels)
        assert torch.allclose(got, reference.ACTIVATIONS[activation](normed), rtol=3e-6, atol=5e-7)


def test_any_shape_of_rows_and_no_rows_at_all(kernels: Library) -> None:
    matrix, x = random_matrix(torch.Generator().manual_seed(7), 20, 32, "int8"), rows(6, 32)
    flat = fused_operations.linear(x, matrix, kernels)
    assert torch.equal(fused_operations.linear(x.view(2, 3, 32), matrix, kernels), flat.view(2, 3, 20))
    assert torch.equal(fused_operations.linear(x[0], matrix, kernels), flat[0])
    assert fused_operations.linear(x[:0], matrix, kernels).shape == (0, 20)


def test_rows_of_the_wrong_length_are_refused(kernels: Library) -> None:
    matrix = random_matrix(torch.Generator().manual_seed(8), 20, 32, "int8")
    with pytest.raises(ValueError, match="32 columns"):
        fused_operations.linear(torch.ones(2, 33), matrix, kernels)


def test_gradients_take_the_way_through_torch(kernels: Library) -> None:
    matrix = random_matrix(torch.Generator().manual_seed(9), 20, 32, "float32")
    x = rows(2, 32).requires_grad_()
    fused_operations.linear(x, matrix, kernels).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, matrix.dequantise().sum(0).expand(2, -1), atol=1e-5)
    assert torch.equal(F.linear(x, matrix.dense), reference.linear(x, matrix))
