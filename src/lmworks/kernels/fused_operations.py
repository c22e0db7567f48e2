"""The fused operations of inference: a step of a whole program, and the product with a packed matrix for other models.

Each has the signature of its definition in `reference.py`, which is what runs where there is no compiled library, on
other devices than the CPU, and where gradients are wanted. `kernels` picks a library other than the default.
"""

from ctypes import byref

import torch
from torch import Tensor

from lmworks.kernels import c_structures, library, reference
from lmworks.kernels.library import Library
from lmworks.kernels.packing import PackedMatrix
from lmworks.kernels.program import Program, RaggedBatch, Rows, array_address, batch_structure


def run(program: Program, batch: RaggedBatch, kernels: Library | None = None, *, hidden: bool = False) -> Rows:
    """The forward of all tokens of a batch; their keys and values are written into the pages.

    The rows are those of the wanted tokens, with their hidden states if asked for. A program without a head gives no
    logits, (rows, 0), and zeros.

    ValueError for an id, position, sequence, page or row that the program or the batch does not have.
    """
    chosen = _chosen(program.embedding.values, kernels)
    if chosen is None:
        return reference.run(program, batch, hidden)
    count = len(batch.logits_indices)
    rows = Rows(
        logits=torch.empty(count, program.vocabulary),
        best=torch.zeros(count, dtype=torch.int64),
        log_normaliser=torch.zeros(count),
        hidden=torch.empty(count, program.width) if hidden else None,
    )
    step = batch_structure(batch)
    step.ids, step.wanted, step.rows = array_address(batch.ids), array_address(batch.logits_indices), count
    step.adapters = None if batch.adapters is None else array_address(batch.adapters)
    for name, tensor in rows._asdict().items():
        setattr(step, name, c_structures.address(tensor))
    library.check(chosen.call("run", byref(program.structure.model), byref(step)), step.error_at)
    return rows


def linear(x: Tensor, matrix: PackedMatrix, kernels: Library | None = None) -> Tensor:
    """`x` (…, columns) of any float dtype → (…, rows) float32: `x @ weight.T + bias`."""
    chosen = _chosen(x, kernels)
    if chosen is None:
        return reference.linear(x, matrix)
    if x.shape[-1] != matrix.columns:
        raise ValueError(f"a matrix of {matrix.columns} columns cannot be multiplied with rows of {x.shape[-1]}")
    flat = x.detach().reshape(-1, matrix.columns).float().contiguous()
    out = torch.empty(*x.shape[:-1], matrix.rows)
    structure = c_structures.matrix(matrix)
    chosen.call("linear", byref(structure), None, flat.data_ptr(), len(flat), False, out.data_ptr())
    return out


def _chosen(x: Tensor, kernels: Library | None) -> Library | None:
    if x.device.type != "cpu" or (x.requires_grad and torch.is_grad_enabled()):
        return None
    return kernels or library.load()
