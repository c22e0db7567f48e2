"""Small random programs and batches for them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmworks.kernels.kv_pages import PAGE, CacheFormat, allocate
from lmworks.kernels.packing import PackedMatrix, concatenate, pack_weight
from lmworks.kernels.program import LayerProgram, Norm, Program, RaggedBatch
from lmworks.kernels.weight_formats import Format

POSITIONS = 256


def random_norm(generator: torch.Generator, width: int, kind: str = "rms") -> Norm:
    weight = 1 + 0.1 * torch.randn(width, generator=generator)
    bias = 0.1 * torch.randn(width, generator=generator) if kind == "layer" else None
    return Norm(kind, weight, 1e-5, bias)  # type: ignore[arg-type]


def random_matrix(
    generator: torch.Generator, rows: int, columns: int, format_: Format, bias: bool = False
) -> PackedMatrix:
    """Entries that keep the size of what they are multiplied with."""
    weight = torch.randn(rows, columns, generator=generator) / columns**0.5
    return pack_weight(weight, format_, torch.randn(rows, generator=generator) if bias else None)


def rotation(rotated: int) -> tuple[Tensor, Tensor]:
    angles = torch.arange(POSITIONS)[:, None] / 100.0 ** (torch.arange(0, rotated, 2) / rotated)
    angles = torch.cat((angles, angles), dim=1)
    return angles.cos(), angles.sin()


def random_layer(
    generator: torch.Generator,
    width: int = 48,
    heads: int = 3,
    kv_heads: int = 1,
    head_dim: int = 16,
    hidden: int = 72,
    format_: Format = "float32",
    cache: CacheFormat = "float32",
    pages: int = 24,
    norm: str = "rms",
    bias: bool = False,
    gated: bool = True,
    rotated: int | None = None,
    qk_norm: bool = False,
    sandwich: bool = False,
    **others: Any,
) -> LayerProgram:
    def matrix(rows: int, columns: int) -> PackedMatrix:
        return random_matrix(generator, rows, columns, format_, bias)

    gates = [matrix(hidden, width) for _ in range(1 + gated)]
    rotated = head_dim if rotated is None else rotated
    return LayerProgram(
        attention_norm=random_norm(generator, width, norm),
        qkv=matrix((heads + 2 * kv_heads) * head_dim, width),
        output=matrix(width, heads * head_dim),
        feed_forward_norm=random_norm(generator, width, norm),
        gate_up=concatenate(gates, multiple=32),
        down=matrix(width, hidden),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        scale=head_dim**-0.5,
        pages=allocate(pages, kv_heads, head_dim, cache),
        rotation=rotation(rotated) if rotated else None,
        query_norm=random_norm(generator, head_dim) if qk_norm else None,
        key_norm=random_norm(generator, head_dim) if qk_norm else None,
        attention_post_norm=random_norm(generator, width) if sandwich else None,
        feed_forward_post_norm=random_norm(generator, width) if sandwich else None,
        gated=gated,
        **others,
    )


def random_program(seed: int = 0, layers: int = 2, vocabulary: int = 83, width: int = 48, **kind: Any) -> Program:
    """Tied: the head is the embedding."""
    generator = torch.Generator().manual_seed(seed)
    table = random_matrix(generator, vocabulary, width, kind.get("format_", "float32"))
    blocks = tuple(random_layer(generator, width, **kind) for _ in range(layers))
    return Program(blocks, table, random_norm(generator, width), table)


def batch(
    parts: Sequence[tuple[int, int, Sequence[int]]],
    tables: Sequence[Sequence[int]],
    wanted: Sequence[int] | None = None,
    adapters: Sequence[int] | None = None,
    groups: int = 1,
) -> RaggedBatch:
    """`parts`: (sequence, first position, ids) each; all logits are wanted unless it is said which."""

    def array(values: Sequence[Any]) -> np.ndarray:
        return np.ascontiguousarray(values, dtype=np.int32)

    ids = [token for _, _, tokens in parts for token in tokens]
    return RaggedBatch(
        ids=array(ids),
        positions=array([first + i for _, first, tokens in parts for i in range(len(tokens))]),
        sequences=array([sequence for sequence, _, tokens in parts for _ in tokens]),
        tables=(array(tables),) * groups,
        logits_indices=array(range(len(ids)) if wanted is None else wanted),
        adapters=None if adapters is None else array(adapters),
    )


def scattered_tables(sequences: int, length: int, pages: int, seed: int = 0) -> list[list[int]]:
    """Page tables for `length` tokens each, in no order, no page twice."""
    each = -(-length // PAGE)
    order = np.random.default_rng(seed).permutation(pages)[: sequences * each]
    return order.reshape(sequences, each).tolist()
