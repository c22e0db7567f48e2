"""A decoder as the kernels run it: its weights in their layout, and one call for each step.

A `Program` is what lowering makes of a model: frozen values, nothing to train. A `RaggedBatch` is one step: tokens of
any sequences in any number, each with its position, its sequence and where that sequence's pages are. `run` computes
the whole forward, with the C++ kernels where the program lies in memory and the machine has them, and otherwise by the
definition in `reference.py`; both write the new keys and values into the same pages.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from torch import Tensor

from lmworks.kernels import library, reference
from lmworks.kernels.c_structures import SITES, Activation, Site
from lmworks.kernels.compiled_program import Lowered
from lmworks.kernels.kv_pages import Pages
from lmworks.kernels.library import Library
from lmworks.kernels.outputs import Rows
from lmworks.kernels.packing import PackedMatrix


@dataclass(frozen=True, eq=False)
class Norm:
    """`rms` or `layer`, over the last dimension; an offset of the model's norm is part of `weight` here.

    weight, bias  (width,) float32; the bias belongs to `layer`.
    """

    kind: Literal["rms", "layer"]
    weight: Tensor
    eps: float
    bias: Tensor | None = None


@dataclass(frozen=True, eq=False)
class LayerProgram:
    """One block: `x += output(attend(qkv(norm(x))))`, then `x += down(activation(gate) · up)` of `norm(x)`.

    qkv            the rows of queries, keys and values: (heads + 2 · kv_heads) · head_dim rows.
    gate_up        the rows of gate and up, each filled up to a multiple of 32 (`concatenate(…, multiple=32)`); only up
                   when not `gated`.
    rotation       cosine and sine, (positions, rotated) float32 each, as `positions.rotation` computes them: the first
                   half of the dimensions turns against the second. None: no rotation.
    query_norm, key_norm    over head_dim, before the rotation; both or none.
    attention_post_norm, feed_forward_post_norm    of a sandwich: applied to what is added.
    window         a position sees so many, itself included; 0: all.
    scale          multiplies the scores; `softcap` caps them, 0: not.
    parallel       both parts read the same x.
    group          whose page table the layer uses, an index into `RaggedBatch.tables`.
    """

    attention_norm: Norm
    qkv: PackedMatrix
    output: PackedMatrix
    feed_forward_norm: Norm
    gate_up: PackedMatrix
    down: PackedMatrix
    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    pages: Pages
    rotation: tuple[Tensor, Tensor] | None = None
    query_norm: Norm | None = None
    key_norm: Norm | None = None
    attention_post_norm: Norm | None = None
    feed_forward_post_norm: Norm | None = None
    window: int = 0
    softcap: float = 0.0
    activation: Activation = "silu"
    gated: bool = True
    parallel: bool = False
    group: int = 0

    @property
    def hidden(self) -> int:
        """The width inside the feed-forward network, without padding."""
        return self.down.columns


@dataclass(frozen=True, eq=False)
class Adapter:
    """A low-rank change of one matrix, added to its product: `scale · (x @ A.T) @ B.T` (Hu et al. 2021, LoRA).

    first  the row of the matrix where the rows of `b` begin: of `qkv`, the queries, keys or values.
    a      (rank, columns) float32.
    b      (rows, rank) float32.
    """

    first: int
    a: Tensor
    b: Tensor
    scale: float


@dataclass(frozen=True, eq=False)
class Program:
    """A whole decoder.

    embedding      its rows are the token vectors; a tied head is the same matrix.
    positions      (positions, width) float32, learned vectors that are added; None: none.
    head_softcap   caps the logits; 0: not.
    adapters       for each adapter, by (layer, site), what it changes; `RaggedBatch.adapters` counts in this order.
    """

    layers: tuple[LayerProgram, ...]
    embedding: PackedMatrix
    final_norm: Norm
    head: PackedMatrix
    embedding_scale: float = 1.0
    positions: Tensor | None = None
    head_softcap: float = 0.0
    adapters: tuple[dict[tuple[int, Site], tuple[Adapter, ...]], ...] = ()

    @property
    def width(self) -> int:
        return self.embedding.columns

    @property
    def vocabulary(self) -> int:
        return self.head.rows

    @property
    def nbytes(self) -> int:
        """Of all matrices; what a tied head shares with the embedding counts once."""
        matrices = [self.embedding, self.head]
        matrices += [getattr(layer, site) for layer in self.layers for site in SITES]
        biases = sum(matrix.bias.nbytes for matrix in matrices if matrix.bias is not None)
        return biases + sum({id(matrix.values): matrix.values.nbytes for matrix in matrices}.values())

    @cached_property
    def lowered(self) -> Lowered:
        """The program as C structures, which point to its tensors; made once."""
        return Lowered(self)


@dataclass(frozen=True, eq=False)
class RaggedBatch:
    """One step. All arrays are int32 and contiguous.

    ids, positions, sequences    (tokens,): each token, where it stands, and the row of `tables` that is its sequence's.
                                 Tokens of one sequence follow each other in the order of their positions.
    tables                       for each group of layers, (sequences, pages) page numbers; -1: dropped, or not there.
    wanted                       (rows,): of which tokens logits are wanted.
    adapters                     (tokens,): which of the program's adapters each token uses, -1: none.
    """

    ids: np.ndarray
    positions: np.ndarray
    sequences: np.ndarray
    tables: tuple[np.ndarray, ...]
    wanted: np.ndarray
    adapters: np.ndarray | None = None


def run(program: Program, batch: RaggedBatch, kernels: Library | None = None, *, hidden: bool = False) -> Rows:
    """The forward of all tokens; their keys and values are written into the pages.

    The rows are those of the wanted tokens, with their hidden states if asked for. `kernels` picks a library other than
    the default.

    ValueError for an id, position, sequence, page or row that the program or the batch does not have.
    """
    chosen = (kernels or library.load()) if program.embedding.values.device.type == "cpu" else None
    return reference.run(program, batch, hidden) if chosen is None else program.lowered.run(batch, chosen, hidden)
