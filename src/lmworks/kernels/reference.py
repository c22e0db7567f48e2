"""The definition of each kernel in PyTorch, which also runs where there are no compiled kernels.

`linear` and `run` have the signatures of `fused_operations.py`. What a kernel rounds is rounded here as well: a
matrix of int8 or int4 is multiplied with int8 activations, one scale for each 32 neighbours, a bfloat16 matrix with
bfloat16 activations. What is left between the two are the orders of sums, and bfloat16 roundings inside attention.

Runs on any device. Matrices are dequantised once and kept, so it takes the memory of a float32 model.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lmworks.kernels import kv_pages as page_memory
from lmworks.kernels.c_structures import Site
from lmworks.kernels.packing import PackedMatrix
from lmworks.kernels.program import Adapter, LayerProgram, Norm, Program, RaggedBatch, Rows
from lmworks.kernels.weight_formats import GROUP, Format

PAGE = page_memory.PAGE
VANISHING = 1e-30  # a group of activations below is zero: 127 divided by it would be infinite


# ---------------------------------------------------------------------------------------------------------------------
# Products


def linear(x: Tensor, matrix: PackedMatrix) -> Tensor:
    """`x` (…, columns) float32 → (…, rows) float32."""
    return F.linear(rounded(x, matrix.format), matrix.dense, matrix.bias)


def rounded(x: Tensor, form: Format) -> Tensor:
    """`x` as a matrix of this format gets to see it, float32."""
    match form:
        case "float32":
            return x
        case "bfloat16":
            return x.to(torch.bfloat16).float()
        case _:
            groups = F.pad(x, (0, -x.shape[-1] % GROUP)).unflatten(-1, (-1, GROUP))
            largest = groups.abs().amax(dim=-1, keepdim=True)
            inverse = torch.where(largest > VANISHING, 127 / largest, 0.0)
            return ((groups * inverse).round() * (largest / 127)).flatten(-2)[..., : x.shape[-1]]


def _squared_relu(x: Tensor) -> Tensor:
    """So et al. 2021, Primer."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,  # with the exact normal distribution function
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "relu2": _squared_relu,
}


def normalise(x: Tensor, norm: Norm | None) -> Tensor:
    """Zhang & Sennrich 2019 (`rms`), Ba et al. 2016 (`layer`)."""
    if norm is None:
        return x
    if norm.kind == "rms":
        return F.rms_norm(x, norm.weight.shape, norm.weight, norm.eps)
    return F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps)


# ---------------------------------------------------------------------------------------------------------------------
# Attention


class Run(NamedTuple):
    """Tokens `start` … `end` of a batch, neighbours of one sequence at the positions from `first` on."""

    start: int
    end: int
    first: int
    sequence: int


def runs(batch: RaggedBatch) -> Iterator[Run]:
    """The batch cut where the sequence changes or a position is left out."""
    count = len(batch.ids)
    steps = (np.diff(batch.sequences) != 0) | (np.diff(batch.positions) != 1)
    borders = [0, *(np.flatnonzero(steps) + 1).tolist(), count] if count else []
    for start, end in pairwise(borders):
        yield Run(start, end, int(batch.positions[start]), int(batch.sequences[start]))


def attend(layer: LayerProgram, qkv: Tensor, batch: RaggedBatch) -> Tensor:
    """Normalises and rotates queries and keys, stores keys and values in their pages, and lets every query attend to
    what its sequence has stored up to itself; without pages, to what the batch has of it.

    `qkv` (tokens, (heads + 2 · kv_heads) · head_dim) float32 → (tokens, heads · head_dim).
    """
    heads, kv_heads, size = layer.heads, layer.kv_heads, layer.head_dim
    query, key, value = qkv.unflatten(-1, (-1, size)).split((heads, kv_heads, kv_heads), dim=1)
    if layer.query_norm is not None and layer.key_norm is not None:
        query, key = normalise(query, layer.query_norm), normalise(key, layer.key_norm)
    if layer.rotation is not None:
        query, key = (_rotate(tensor, layer.rotation, batch.positions) for tensor in (query, key))
    cut = list(runs(batch))
    new = [(key[run.start : run.end].transpose(0, 1), value[run.start : run.end].transpose(0, 1)) for run in cut]
    if layer.pages.count:
        tables = [batch.tables[layer.group][run.sequence].tolist() for run in cut]
        for run, table, pair in zip(cut, tables, new, strict=True):
            page_memory.write(layer.pages, table, run.first, *pair)
        # all are stored before any is read: a sequence may come in several runs
        stored = zip(cut, tables, strict=True)
        new = [page_memory.read(layer.pages, table, run.first + run.end - run.start) for run, table in stored]
    attended = [_attend_run(layer, query[run.start : run.end], *pair) for run, pair in zip(cut, new, strict=True)]
    return torch.cat(attended) if attended else qkv.new_zeros(0, heads * size)


def _rotate(heads: Tensor, rotation: tuple[Tensor, Tensor], positions: np.ndarray) -> Tensor:
    """`heads` (tokens, heads, head_dim): Su et al. 2021, with the dimensions of a plane half a head apart."""
    indices = torch.from_numpy(positions).to(heads.device).long()
    cosine, sine = (table[indices][:, None] for table in rotation)  # (tokens, 1, rotated)
    turning, still = heads.split((cosine.shape[-1], heads.shape[-1] - cosine.shape[-1]), dim=-1)
    first, second = turning.chunk(2, dim=-1)
    turned = turning * cosine + torch.cat((-second, first), dim=-1) * sine
    return torch.cat((turned, still), dim=-1)


def _attend_run(layer: LayerProgram, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """`query` (length, heads, head_dim), the last of what is stored, `key` and `value` (kv_heads, stored, head_dim) →
    (length, heads · head_dim)."""
    length, stored = len(query), key.shape[1]
    grouped = query.unflatten(1, (layer.kv_heads, -1)).permute(1, 2, 0, 3)  # (kv_heads, shared by, length, head_dim)
    scores = grouped @ key.transpose(1, 2)[:, None] * layer.scale
    if layer.softcap:
        scores = layer.softcap * torch.tanh(scores / layer.softcap)
    positions = torch.arange(stored, device=key.device)
    distance = positions[stored - length :, None] - positions
    hidden = distance < 0 if not layer.bidirectional else torch.zeros_like(distance, dtype=torch.bool)
    if layer.window:
        hidden |= distance >= layer.window
    hidden |= positions < layer.first
    weights = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1)
    return (weights @ value[:, None]).permute(2, 0, 1, 3).flatten(1)


# ---------------------------------------------------------------------------------------------------------------------
# The whole program


def run(program: Program, batch: RaggedBatch, hidden: bool) -> Rows:
    """Run one step in PyTorch, as `fused_operations.run` does."""
    device = program.embedding.values.device
    ids, logits_indices = (torch.from_numpy(array).to(device) for array in (batch.ids, batch.logits_indices))
    x = program.embedding.dequantise(ids) * program.embedding_scale
    if program.positions is not None:
        x = x + program.positions[torch.from_numpy(batch.positions).to(device).long()]
    for number, layer in enumerate(program.layers):
        x = _block(program, number, layer, x, batch)
    states = normalise(x[logits_indices.long()], program.final_norm)  # (rows, width)
    if program.head is None:
        nothing = states.new_zeros(len(states), 0)
        return Rows(nothing, nothing.sum(-1).long(), nothing.sum(-1), states if hidden else None)
    logits = linear(states, program.head)
    if program.head_softcap:
        logits = program.head_softcap * torch.tanh(logits / program.head_softcap)
    return Rows(logits, logits.argmax(dim=-1), logits.logsumexp(dim=-1), states if hidden else None)


def _block(program: Program, number: int, layer: LayerProgram, x: Tensor, batch: RaggedBatch) -> Tensor:
    """(tokens, width) → (tokens, width)."""

    def product(site: Site, x: Tensor, matrix: PackedMatrix) -> Tensor:
        adapters = [adapter.get((number, site), ()) for adapter in program.adapters]
        return adapted(linear(x, matrix), x, adapters, batch.adapters)

    def feed_forward(normed: Tensor) -> Tensor:
        gate_up = product("gate_up", normed, layer.gate_up)
        halves = gate_up.chunk(2 if layer.gated else 1, dim=-1)  # each filled up to a multiple of 32 rows
        hidden = ACTIVATIONS[layer.activation](halves[0][..., : layer.hidden])
        if layer.gated:
            hidden = hidden * halves[1][..., : layer.hidden]
        change = product("down", hidden, layer.down)
        return change if layer.feed_forward_post_norm is None else normalise(change, layer.feed_forward_post_norm)

    normed = normalise(x, layer.attention_norm)
    attended = attend(layer, product("qkv", normed, layer.qkv), batch)
    change = product("output", attended, layer.output)
    if layer.attention_post_norm is not None:
        change = normalise(change, layer.attention_post_norm)
    if layer.in_place:
        x = normalise(normed + change, layer.feed_forward_norm)
        return x + feed_forward(x)
    return x + change + feed_forward(normalise(x if layer.parallel else x + change, layer.feed_forward_norm))


def adapted(product: Tensor, x: Tensor, adapters: list[tuple[Adapter, ...]], used: np.ndarray | None) -> Tensor:
    """Adds to the `product` (tokens, rows) of `x` (tokens, columns) what each token's adapter, `used`, changes."""
    if used is None or not any(adapters):
        return product
    product = product.clone()
    for number, changes in enumerate(adapters):
        tokens = torch.from_numpy(np.flatnonzero(used == number)).to(x.device)
        for change in changes:
            added = change.scale * (x[tokens] @ change.a.T) @ change.b.T  # (tokens of the adapter, rows of b)
            product[tokens, change.first : change.first + added.shape[1]] += added
    return product
