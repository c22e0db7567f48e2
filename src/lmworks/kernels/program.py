"""A decoder as the kernels run it: its weights in their layout, and what one step of it takes and gives.

A `Program` is what lowering makes of a model: frozen values, nothing to train. A `RaggedBatch` is one step: tokens of
any sequences in any number, each with its position, its sequence and where that sequence's pages are. It gives `Rows`.
`fused_operations.run` computes the step. The second half of the file describes a program and a batch to the C++
kernels, as the structures of `cpp/abi.h`.
"""

import mmap
from collections.abc import Iterable
from ctypes import POINTER, cast
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lmworks.kernels import c_structures
from lmworks.kernels.c_structures import SITES, Activation, Site
from lmworks.kernels.kv_pages import CACHE_FORMATS, Pages
from lmworks.kernels.packing import PackedMatrix

MOST_DIMENSIONS = 1024  # of a head: `kMostDimensions` of page_layout.h
_ALIGNMENT = 64  # bytes: a line of the cache


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
    """One block: `x += output(attend(qkv(norm(x))))`, then `x += down(activation(gate) · up)` of `norm(x)`. A norm
    that is None changes nothing.

    qkv            the rows of queries, keys and values: (heads + 2 · kv_heads) · head_dim rows.
    gate_up        the rows of gate and up, each filled up to a multiple of 32 (`concatenate(…, multiple=32)`); only up
                   when not `gated`.
    rotation       cosine and sine, (positions, rotated) float32 each, as `positions.rotation` computes them: the first
                   half of the dimensions turns against the second. None: no rotation.
    query_norm, key_norm    over head_dim, before the rotation; both or none.
    attention_post_norm, feed_forward_post_norm    of a sandwich: applied to what is added.
    window         a position sees so many, itself included; 0: all.
    first          no position before it is seen.
    scale          multiplies the scores; `softcap` caps them, 0: not.
    parallel       both parts read the same x.
    in_place       the norm of x takes the place of x: `x = norm(x)`, then `x += f(x)`. So blocks whose norms come last
                   are those whose norms come first, each with the norm before its own.
    pages          none of them (a count of 0): nothing is kept, and a query sees the tokens of its own sequence in the
                   batch, which has all of them next to each other; no window and no softcap then.
    bidirectional  without pages: a query sees the tokens behind it, too.
    group          whose page table the layer uses, an index into `RaggedBatch.tables`.
    """

    attention_norm: Norm | None
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
    first: int = 0
    softcap: float = 0.0
    activation: Activation = "silu"
    gated: bool = True
    parallel: bool = False
    in_place: bool = False
    bidirectional: bool = False
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
    """A whole decoder, or an encoder.

    embedding      its rows are the token vectors; a tied head is the same matrix.
    head           None: the model gives hidden states alone.
    positions      (positions, width) float32, learned vectors that are added; None: none.
    head_softcap   caps the logits; 0: not.
    adapters       for each adapter, by (layer, site), its changes; `RaggedBatch.adapters` counts in this order.
    """

    layers: tuple[LayerProgram, ...]
    embedding: PackedMatrix
    final_norm: Norm | None
    head: PackedMatrix | None
    embedding_scale: float = 1.0
    positions: Tensor | None = None
    head_softcap: float = 0.0
    adapters: tuple[dict[tuple[int, Site], tuple[Adapter, ...]], ...] = ()

    @property
    def width(self) -> int:
        return self.embedding.columns

    @property
    def vocabulary(self) -> int:
        return 0 if self.head is None else self.head.rows

    @property
    def nbytes(self) -> int:
        """Memory of all matrices; a tied head's, which is the embedding's, counts once."""
        matrices = [self.embedding, *([] if self.head is None else [self.head])]
        matrices += [getattr(layer, site) for layer in self.layers for site in SITES]
        biases = sum(matrix.bias.nbytes for matrix in matrices if matrix.bias is not None)
        return biases + sum({id(matrix.values): matrix.values.nbytes for matrix in matrices}.values())

    @cached_property
    def structure(self) -> "ProgramStructure":
        """The program as C structures, which point to its tensors; made once."""
        return ProgramStructure(self)


@dataclass(frozen=True, eq=False)
class RaggedBatch:
    """One step. All arrays are int32 and contiguous.

    ids, positions, sequences    (tokens,): each token, where it stands, and the row of `tables` that is its sequence's.
                                 Tokens of one sequence follow each other in the order of their positions.
    tables                       for each group of layers, (sequences, pages) page numbers; -1: dropped, or not there.
    logits_indices               (rows,): of which tokens logits are computed.
    adapters                     (tokens,): which of the program's adapters each token uses, -1: none.
    """

    ids: np.ndarray
    positions: np.ndarray
    sequences: np.ndarray
    tables: tuple[np.ndarray, ...]
    logits_indices: np.ndarray
    adapters: np.ndarray | None = None


class Rows(NamedTuple):
    """The result of a step, one row for each wanted token.

    logits           (rows, vocabulary) float32.
    best             (rows,) int64, the id of the largest logit, the lowest one among equals.
    log_normaliser   (rows,) float32, the natural logarithm of the sum of exp(logits); not finite where a logit is NaN
                     or +inf.
    hidden           (rows, width) float32, the last hidden states, after the final norm; None: not asked for.
    """

    logits: Tensor
    best: Tensor
    log_normaliser: Tensor
    hidden: Tensor | None


# ---------------------------------------------------------------------------------------------------------------------
# Large pages


def in_large_pages(program: Program) -> Program:
    """The same program with all its matrices in one piece of memory, in the order in which a step reads them.

    A decoding step reads every weight once. In pages of 4 KiB that is tens of thousands of translations of addresses,
    and the processor's prefetchers stop at each page's end; pages of 2 MiB, which Linux gives on request,
    take both away. That is worth some percent of the speed of one sequence, and it needs memory in one piece: the
    memory of the weights a second time until the given program is gone.
    """
    layer_matrices = [getattr(layer, site) for layer in program.layers for site in SITES]
    head = program.embedding if program.head is None else program.head
    values = {id(matrix.values): matrix.values for matrix in (*layer_matrices, head, program.embedding)}
    memory = large_pages(sum(_room(tensor) for tensor in values.values()))
    moved, start = {}, 0
    for key, tensor in values.items():
        moved[key] = memory[start : start + tensor.nbytes].view(tensor.shape).copy_(tensor)
        start += _room(tensor)

    def move(matrix: PackedMatrix) -> PackedMatrix:
        return replace(matrix, values=moved[id(matrix.values)])

    layers = tuple(replace(layer, **{site: move(getattr(layer, site)) for site in SITES}) for layer in program.layers)
    embedding = move(program.embedding)
    if program.head is not None:
        head = embedding if program.embedding is program.head else move(program.head)
        program = replace(program, head=head)
    return replace(program, layers=layers, embedding=embedding)


def _room(tensor: Tensor) -> int:
    return -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT


def large_pages(size: int) -> Tensor:
    """(size,) uint8, in large pages where the system has them."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(size, dtype=torch.uint8)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # shared memory gets no large pages
    memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)  # keeps the mapping alive


# ---------------------------------------------------------------------------------------------------------------------
# C structures


class ProgramStructure:
    """The C structures of one program, and everything they point to."""

    def __init__(self, program: Program) -> None:
        self._kept: list[Any] = []
        self.layers = (c_structures.Layer * len(program.layers))(*(layer_structure(layer) for layer in program.layers))
        positions = program.positions
        self.model = c_structures.Model(
            layers=cast(self.layers, POINTER(c_structures.Layer)),
            positions=c_structures.address(positions),
            adapters=self._adapters(program),
            layer_count=len(program.layers),
            adapter_count=len(program.adapters),
            position_count=0 if positions is None else len(positions),
            embedding=c_structures.matrix(program.embedding),
            head=c_structures.matrix(program.head),
            final_norm=norm_structure(program.final_norm),
            embedding_scale=program.embedding_scale,
            head_softcap=program.head_softcap,
        )

    def _adapters(self, program: Program) -> Any:
        """(adapters, layers, sites) of `Changes`."""
        targets: list[tuple[int, Site]] = [(layer, site) for layer in range(len(program.layers)) for site in SITES]
        table = [self._changes(adapter.get(target, ())) for adapter in program.adapters for target in targets]
        array = (c_structures.Changes * len(table))(*table)
        self._kept.append(array)
        return cast(array, POINTER(c_structures.Changes))

    def _changes(self, adapters: Iterable[Adapter]) -> c_structures.Changes:
        changes = []
        for adapter in adapters:
            a = adapter.a.float().contiguous()
            b = (adapter.b.float() * adapter.scale).T.contiguous()  # (rank, rows)
            self._kept += [a, b]
            changes.append(c_structures.Change(a.data_ptr(), b.data_ptr(), adapter.first, b.shape[1], b.shape[0]))
        array = (c_structures.Change * len(changes))(*changes)
        self._kept.append(array)
        return c_structures.Changes(cast(array, POINTER(c_structures.Change)), len(changes))


def layer_structure(layer: LayerProgram) -> c_structures.Layer:
    """ValueError for sizes that do not fit each other."""
    _check_sizes(layer)
    cosine, sine = layer.rotation or (None, None)
    length, rotated = (0, 0) if cosine is None else cosine.shape
    return c_structures.Layer(
        **{name: norm_structure(getattr(layer, name)) for name in c_structures.LAYER_NORMS},
        **{site: c_structures.matrix(getattr(layer, site)) for site in SITES},
        **{name: getattr(layer, name) for name in c_structures.LAYER_NUMBERS},
        cosine=c_structures.address(cosine),
        sine=c_structures.address(sine),
        pages=c_structures.address(layer.pages.data),
        page_count=layer.pages.count,
        rotated=rotated,
        rotation_length=length,
        activation=c_structures.ACTIVATIONS.index(layer.activation),
        cache_format=CACHE_FORMATS.index(layer.pages.format),
    )


def norm_structure(norm: Norm | None) -> c_structures.Norm:
    if norm is None:
        return c_structures.Norm()
    weight, bias = c_structures.address(norm.weight), c_structures.address(norm.bias)
    return c_structures.Norm(weight, bias, c_structures.NORMS.index(norm.kind), norm.eps)


def batch_structure(batch: RaggedBatch) -> c_structures.Batch:
    """Positions, sequences and page tables; what they point to must be kept. ValueError for arrays of other lengths."""
    tokens = len(batch.positions)
    if any(array is not None and array.shape != (tokens,) for array in (batch.ids, batch.sequences, batch.adapters)):
        raise ValueError("the ids, positions, sequences and adapters of a batch need one number for each token")
    tables = (c_structures.Table * len(batch.tables))(
        *(c_structures.Table(array_address(table), table.shape[1]) for table in batch.tables)
    )
    step = c_structures.Batch()
    step.positions, step.sequences = array_address(batch.positions), array_address(batch.sequences)
    step.tables = cast(tables, POINTER(c_structures.Table))
    step.tokens = tokens
    step.sequence_count = min((len(table) for table in batch.tables), default=np.iinfo(np.int32).max)
    step.group_count = len(batch.tables)
    return step


def array_address(array: np.ndarray) -> int:
    """The address of an array; ValueError unless it is contiguous int32."""
    if array.dtype != np.int32 or not array.flags.c_contiguous:
        raise ValueError(
            f"the arrays of a batch are contiguous int32, not {array.dtype}: np.ascontiguousarray(…, np.int32)"
        )
    return array.__array_interface__["data"][0]


def _check_sizes(layer: LayerProgram) -> None:
    heads = (layer.heads + 2 * layer.kv_heads) * layer.head_dim
    filled = -(-layer.hidden // 32) * 32 * (2 if layer.gated else 1)
    sizes = {
        "rows of qkv": (layer.qkv.rows, heads),
        "columns of output": (layer.output.columns, layer.heads * layer.head_dim),
        "rows of output": (layer.output.rows, layer.qkv.columns),
        "rows of gate_up, each part filled up to a multiple of 32": (-(-layer.gate_up.rows // 32) * 32, filled),
        "rows of down": (layer.down.rows, layer.qkv.columns),
        "heads of the pages": (layer.pages.kv_heads, layer.kv_heads),
        "dimensions of the pages": (layer.pages.head_dim, layer.head_dim),
    }
    if layer.head_dim > MOST_DIMENSIONS:
        raise ValueError(f"the kernels know heads of up to {MOST_DIMENSIONS} dimensions, not {layer.head_dim}")
    for what, (size, expected) in sizes.items():
        if size != expected:
            raise ValueError(f"a layer needs {expected} {what}, not {size}")
