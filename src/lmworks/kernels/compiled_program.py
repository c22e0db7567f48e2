"""A program as the C structures that the compiled kernels read, and a step with them."""

from collections.abc import Iterable
from ctypes import POINTER, byref, cast
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lmworks.kernels import c_structures, library
from lmworks.kernels.library import Library
from lmworks.kernels.outputs import Rows

if TYPE_CHECKING:
    from lmworks.kernels.program import Adapter, LayerProgram, Norm, Program, RaggedBatch


MOST_DIMENSIONS = 1024  # of a head: `kMostDimensions` of page_layout.h


class Lowered:
    """The structures of one program, and everything they point to."""

    def __init__(self, program: "Program") -> None:
        self._program = program
        self._kept: list[Any] = []
        self.layers = (c_structures.Layer * len(program.layers))(*(layer_structure(layer) for layer in program.layers))
        positions = program.positions
        self.model = c_structures.Model(
            layers=cast(self.layers, POINTER(c_structures.Layer)),
            positions=c_structures.address(positions),
            adapters=self._adapters(),
            layer_count=len(program.layers),
            adapter_count=len(program.adapters),
            position_count=0 if positions is None else len(positions),
            embedding=c_structures.matrix(program.embedding),
            head=c_structures.matrix(program.head),
            final_norm=norm_structure(program.final_norm),
            embedding_scale=program.embedding_scale,
            head_softcap=program.head_softcap,
        )

    def run(self, batch: "RaggedBatch", kernels: Library, hidden: bool) -> Rows:
        """See `program.run`."""
        rows = len(batch.wanted)
        logits = torch.empty(rows, self._program.vocabulary)
        best = torch.empty(rows, dtype=torch.int64)
        log_normaliser = torch.empty(rows)
        states = torch.empty(rows, self._program.width) if hidden else None
        step = batch_structure(batch)
        step.wanted, step.rows = array_address(batch.wanted), rows
        step.logits, step.best = logits.data_ptr(), best.data_ptr()
        step.log_normaliser = log_normaliser.data_ptr()
        step.hidden = c_structures.address(states)
        if batch.adapters is not None:
            step.adapters = array_address(batch.adapters)
        step.ids = array_address(batch.ids)
        library.check(kernels.call("run", byref(self.model), byref(step)), step.error_at)
        return Rows(logits, best, log_normaliser, states)

    def _adapters(self) -> Any:
        """(adapters, layers, sites) of `Changes`."""
        program = self._program
        places: list[tuple[int, c_structures.Site]] = [
            (layer, site) for layer in range(len(program.layers)) for site in c_structures.SITES
        ]
        table = [self._changes(adapter.get(place, ())) for adapter in program.adapters for place in places]
        array = (c_structures.Changes * len(table))(*table)
        self._kept.append(array)
        return cast(array, POINTER(c_structures.Changes))

    def _changes(self, adapters: Iterable["Adapter"]) -> c_structures.Changes:
        changes = []
        for adapter in adapters:
            a = adapter.a.float().contiguous()
            b = (adapter.b.float() * adapter.scale).T.contiguous()  # (rank, rows)
            self._kept += [a, b]
            changes.append(c_structures.Change(a.data_ptr(), b.data_ptr(), adapter.first, b.shape[1], b.shape[0]))
        array = (c_structures.Change * len(changes))(*changes)
        self._kept.append(array)
        return c_structures.Changes(cast(array, POINTER(c_structures.Change)), len(changes))


def layer_structure(layer: "LayerProgram") -> c_structures.Layer:
    """ValueError for sizes that do not fit each other."""
    _check_sizes(layer)
    cosine, sine = layer.rotation or (None, None)
    length, rotated = (0, 0) if cosine is None else cosine.shape
    return c_structures.Layer(
        **{name: norm_structure(getattr(layer, name)) for name in c_structures.LAYER_NORMS},
        **{site: c_structures.matrix(getattr(layer, site)) for site in c_structures.SITES},
        cosine=c_structures.address(cosine),
        sine=c_structures.address(sine),
        pages=c_structures.address(layer.pages.data),
        page_count=layer.pages.count,
        heads=layer.heads,
        kv_heads=layer.kv_heads,
        head_dim=layer.head_dim,
        rotated=rotated,
        rotation_length=length,
        window=layer.window,
        scale=layer.scale,
        softcap=layer.softcap,
        activation=c_structures.ACTIVATIONS.index(layer.activation),
        gated=layer.gated,
        parallel=layer.parallel,
        cache_format=c_structures.cache_format(layer.pages.format),
        group=layer.group,
    )


def norm_structure(norm: "Norm | None") -> c_structures.Norm:
    return c_structures.Norm() if norm is None else c_structures.norm(norm.weight, norm.bias, norm.kind, norm.eps)


def batch_structure(batch: "RaggedBatch") -> c_structures.Batch:
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
    step.sequence_count = min((len(table) for table in batch.tables), default=0)
    step.group_count = len(batch.tables)
    return step


def array_address(array: np.ndarray) -> int:
    """Where an array begins; ValueError unless it is contiguous int32."""
    if array.dtype != np.int32 or not array.flags.c_contiguous:
        raise ValueError(
            f"the arrays of a batch are contiguous int32, not {array.dtype}: np.ascontiguousarray(…, np.int32)"
        )
    return array.__array_interface__["data"][0]


def _check_sizes(layer: "LayerProgram") -> None:
    heads = (layer.heads + 2 * layer.kv_heads) * layer.head_dim
    filled = -(-layer.hidden // 32) * 32 * (2 if layer.gated else 1)
    wanted = {
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
    for what, (size, expected) in wanted.items():
        if size != expected:
            raise ValueError(f"a layer needs {expected} {what}, not {size}")
