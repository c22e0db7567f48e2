"""The kernels one by one, for models that have no fused program: tensors in, tensors out, on the CPU."""

from torch import Tensor

from lmworks.kernels import reference
from lmworks.kernels.packing import PackedMatrix


def linear(x: Tensor, matrix: PackedMatrix) -> Tensor:
    """`x` (…, columns) float32 → (…, rows) float32."""
    return reference.linear(x, matrix)
