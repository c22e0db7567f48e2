"""The kernels that a program's step is made of, one by one; `x` is contiguous float32."""

from ctypes import byref

import torch
from torch import Tensor

from lmworks.kernels import c_structures, library
from lmworks.kernels.c_structures import Activation
from lmworks.kernels.library import Library
from lmworks.kernels.packing import PackedMatrix
from lmworks.kernels.program import LayerProgram, Norm, RaggedBatch, batch_structure, layer_structure, norm_structure


def norm_linear(x: Tensor, norm: Norm, matrix: PackedMatrix, kernels: Library) -> Tensor:
    """The product of the normed `x`: (tokens, columns) → (tokens, rows)."""
    out, structure, weights = torch.empty(len(x), matrix.rows), c_structures.matrix(matrix), norm_structure(norm)
    kernels.call("linear", byref(structure), byref(weights), x.data_ptr(), len(x), False, out.data_ptr())
    return out


def linear_add(residual: Tensor, x: Tensor, matrix: PackedMatrix, kernels: Library) -> Tensor:
    """`residual` (tokens, rows) plus the product of `x` (tokens, columns)."""
    out, structure = residual.clone(), c_structures.matrix(matrix)
    kernels.call("linear", byref(structure), None, x.data_ptr(), len(x), True, out.data_ptr())
    return out


def norm_gated_linear(
    x: Tensor, norm: Norm, gate_up: PackedMatrix, hidden: int, activation: Activation, gated: bool, kernels: Library
) -> Tensor:
    """`activation(gate(norm(x))) · up(norm(x))`, or `activation(up(norm(x)))`: (tokens, columns) → (tokens, hidden)."""
    out, matrix, weights = torch.empty(len(x), hidden), c_structures.matrix(gate_up), norm_structure(norm)
    kind = c_structures.ACTIVATIONS.index(activation)
    kernels.call(
        "norm_gated_linear",
        *(byref(matrix), byref(weights), hidden, kind, gated),
        *(x.data_ptr(), len(x), out.data_ptr()),
    )
    return out


def attend(layer: LayerProgram, qkv: Tensor, batch: RaggedBatch, kernels: Library) -> Tensor:
    """As `reference.attend`; ValueError as for `fused_operations.run`."""
    in_place = qkv.clone(memory_format=torch.contiguous_format)  # normed and rotated
    out = torch.empty(len(qkv), layer.heads * layer.head_dim)
    structure, step = layer_structure(layer), batch_structure(batch)
    error = kernels.call("attend", byref(structure), byref(step), in_place.data_ptr(), out.data_ptr())
    library.check(error, step.error_at)
    return out
