"""The fused operations of inference: a step of a whole program, and the kernels one by one for other models.

Each has the signature of its definition in `reference.py`, which is what runs where there is no compiled library, on
other devices than the CPU, and where gradients are wanted. `kernels` picks a library other than the default.
"""

from ctypes import byref

import torch
from torch import Tensor

from lmworks.kernels import c_structures, library, reference
from lmworks.kernels.c_structures import Activation
from lmworks.kernels.library import Library
from lmworks.kernels.packing import PackedMatrix
from lmworks.kernels.program import (
    LayerProgram,
    Norm,
    Program,
    RaggedBatch,
    Rows,
    array_address,
    batch_structure,
    layer_structure,
    norm_structure,
)


def run(program: Program, batch: RaggedBatch, kernels: Library | None = None, *, hidden: bool = False) -> Rows:
    """The forward of all tokens of a batch; their keys and values are written into the pages.

    The rows are those of the wanted tokens, with their hidden states if asked for. A program without a head gives no
    logits, (rows, 0), and zeros.

    ValueError for an id, position, sequence, page or row that the program or the batch does not have.
    """
    chosen = _chosen(program.embedding.values, kernels)
    if chosen is None:
        return reference.run(program, batch, hidden)
    count = len(batch.wanted)
    rows = Rows(
        logits=torch.empty(count, program.vocabulary),
        best=torch.zeros(count, dtype=torch.int64),
        log_normaliser=torch.zeros(count),
        hidden=torch.empty(count, program.width) if hidden else None,
    )
    step = batch_structure(batch)
    step.ids, step.wanted, step.rows = array_address(batch.ids), array_address(batch.wanted), count
    step.adapters = None if batch.adapters is None else array_address(batch.adapters)
    for name, tensor in rows._asdict().items():
        setattr(step, name, c_structures.address(tensor))
    library.check(chosen.call("run", byref(program.structure.model), byref(step)), step.error_at)
    return rows


def linear(x: Tensor, matrix: PackedMatrix, kernels: Library | None = None) -> Tensor:
    """`x` (…, columns) float32 → (…, rows) float32: `x @ weight.T + bias`."""
    chosen = _chosen(x, kernels)
    if chosen is None:
        return reference.linear(x, matrix)
    return _product(chosen, x, matrix, None, None)


def norm_linear(x: Tensor, norm: Norm, matrix: PackedMatrix, kernels: Library | None = None) -> Tensor:
    """`linear` of the normed `x`."""
    chosen = _chosen(x, kernels)
    if chosen is None:
        return reference.norm_linear(x, norm, matrix)
    return _product(chosen, x, matrix, norm, None)


def linear_add(residual: Tensor, x: Tensor, matrix: PackedMatrix, kernels: Library | None = None) -> Tensor:
    """`residual` (…, rows) plus `linear` of `x` (…, columns)."""
    chosen = _chosen(x, kernels)
    if chosen is None:
        return reference.linear_add(residual, x, matrix)
    return _product(chosen, x, matrix, None, residual)


def norm_gated_linear(
    x: Tensor,
    norm: Norm,
    gate_up: PackedMatrix,
    hidden: int,
    activation: Activation,
    gated: bool,
    kernels: Library | None = None,
) -> Tensor:
    """`activation(gate(norm(x))) · up(norm(x))`, or `activation(up(norm(x)))`: (…, columns) → (…, hidden).

    `gate_up` as in `LayerProgram`.
    """
    chosen = _chosen(x, kernels)
    if chosen is None:
        return reference.norm_gated_linear(x, norm, gate_up, hidden, activation, gated)
    flat = _rows(x, gate_up.columns)
    out = torch.empty(len(flat), hidden)
    matrix, weights = c_structures.matrix(gate_up), norm_structure(norm)
    kind = c_structures.ACTIVATIONS.index(activation)
    chosen.call(
        "norm_gated_linear",
        *(byref(matrix), byref(weights), hidden, kind, gated),
        *(flat.data_ptr(), len(flat), out.data_ptr()),
    )
    return out.view(*x.shape[:-1], hidden)


def attend(layer: LayerProgram, qkv: Tensor, batch: RaggedBatch, kernels: Library | None = None) -> Tensor:
    """Norms and rotates queries and keys, stores keys and values in the layer's pages, and lets every query attend to
    what its sequence has stored up to itself; without pages, to what the batch has of it.

    `qkv` (tokens, (heads + 2 · kv_heads) · head_dim) float32 → (tokens, heads · head_dim). ValueError as for `run`.
    """
    chosen = _chosen(qkv, kernels)
    if chosen is None:
        return reference.attend(layer, qkv, batch)
    own = qkv.float().clone(memory_format=torch.contiguous_format)  # normed and rotated in place
    out = torch.empty(len(own), layer.heads * layer.head_dim)
    structure, step = layer_structure(layer), batch_structure(batch)
    library.check(chosen.call("attend", byref(structure), byref(step), own.data_ptr(), out.data_ptr()), step.error_at)
    return out


def _chosen(x: Tensor, kernels: Library | None) -> Library | None:
    if x.device.type != "cpu" or (x.requires_grad and torch.is_grad_enabled()):
        return None
    return kernels or library.load()


def _product(kernels: Library, x: Tensor, packed: PackedMatrix, norm: Norm | None, residual: Tensor | None) -> Tensor:
    flat = _rows(x, packed.columns)
    shape = (*x.shape[:-1], packed.rows)
    if residual is None:
        out = torch.empty(shape)
    elif residual.shape == shape:
        out = residual.float().clone(memory_format=torch.contiguous_format)
    else:
        raise ValueError(f"the residual must have the shape of the product, {shape}, not {tuple(residual.shape)}")
    matrix = c_structures.matrix(packed)
    weights = None if norm is None else byref(norm_structure(norm))
    add = residual is not None
    kernels.call("linear", byref(matrix), weights, flat.data_ptr(), len(flat), add, out.data_ptr())
    return out


def _rows(x: Tensor, columns: int) -> Tensor:
    """(…, columns) of any float dtype → (rows, columns) float32, contiguous."""
    if x.shape[-1] != columns:
        raise ValueError(f"a matrix of {columns} columns cannot be multiplied with rows of {x.shape[-1]}")
    return x.detach().reshape(-1, columns).float().contiguous()
