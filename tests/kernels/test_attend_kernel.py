"""Attention over pages against the formula in float64, and that nothing but a token's own past changes its bits."""

from dataclasses import replace

import pytest
import single_kernels
import torch
from programs import batch, random_layer, scattered_tables

from kit.tables import for_each
from lmworks.kernels import reference
from lmworks.kernels.kv_pages import CACHE_FORMATS, PAGE, CacheFormat, allocate, read
from lmworks.kernels.library import Library
from lmworks.kernels.program import LayerProgram, RaggedBatch

# Of values of size 1: bfloat16 rounds keys, values, queries and weights to 8 bits, int8 keys and values to 1/127.
TOLERANCE = {"float32": 2e-6, "bfloat16": 0.02, "int8": 0.04}


def layer_of(seed: int = 0, **kind: object) -> LayerProgram:
    return random_layer(torch.Generator().manual_seed(seed), **kind)  # type: ignore[arg-type]


def fresh(layer: LayerProgram) -> LayerProgram:
    """The same layer with an empty cache."""
    pages = layer.pages
    return replace(layer, pages=allocate(pages.count, pages.kv_heads, pages.head_dim, pages.format))


def random_qkv(layer: LayerProgram, tokens: int, seed: int = 1) -> torch.Tensor:
    width = (layer.heads + 2 * layer.kv_heads) * layer.head_dim
    return torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed))


def formula(layer: LayerProgram, qkv: torch.Tensor) -> torch.Tensor:
    """One sequence from position 0, all heads written out, float64."""
    length, size = len(qkv), layer.head_dim
    query, key, value = qkv.double().unflatten(1, (-1, size)).split((layer.heads, layer.kv_heads, layer.kv_heads), 1)
    if layer.query_norm is not None and layer.key_norm is not None:
        query, key = (
            part / (part.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight
            for part, norm in ((query, layer.query_norm), (key, layer.key_norm))
        )
    if layer.rotation is not None:
        rotated = layer.rotation[0].shape[1]
        cosine, sine = (table[:length, None, : rotated // 2].double() for table in layer.rotation)

        def turn(heads: torch.Tensor) -> torch.Tensor:
            plane = torch.complex(heads[..., : rotated // 2], heads[..., rotated // 2 : rotated])
            turned = plane * torch.complex(cosine, sine)
            return torch.cat((turned.real, turned.imag, heads[..., rotated:]), dim=-1)

        query, key = turn(query), turn(key)
    outputs = []
    for head in range(layer.heads):
        shared = head // (layer.heads // layer.kv_heads)
        scores = query[:, head] @ key[:, shared].T * layer.scale
        if layer.softcap:
            scores = layer.softcap * (scores / layer.softcap).tanh()
        distance = torch.arange(length)[:, None] - torch.arange(length)
        seen = (distance >= 0) & (distance < (layer.window or length))
        outputs.append(scores.masked_fill(~seen, -torch.inf).softmax(1) @ value[:, shared])
    return torch.cat(outputs, dim=1)


@for_each("cache", CACHE_FORMATS)
@for_each(("heads", "kv_heads", "head_dim"), [(1, 1, 16), (9, 1, 32), (6, 2, 48), (4, 4, 80), (3, 1, 64)])
def test_attention_is_the_formula(
    kernels: Library, cache: CacheFormat, heads: int, kv_heads: int, head_dim: int
) -> None:
    layer = layer_of(heads=heads, kv_heads=kv_heads, head_dim=head_dim, cache=cache)
    for length in (1, 15, 16, 17, 150):
        qkv = random_qkv(layer, length)
        tables = scattered_tables(1, length, 24)
        got = single_kernels.attend(fresh(layer), qkv, batch([(0, 0, range(length))], tables), kernels)
        assert (got - formula(layer, qkv)).abs().max() <= TOLERANCE[cache]


@for_each(
    "kind",
    [
        {"window": 1},
        {"window": 20},
        {"window": 130},
        {"softcap": 2.0},
        {"qk_norm": True},
        {"rotated": 0},
        {"rotated": 6},
        {"softcap": 5.0, "window": 40, "qk_norm": True, "heads": 4, "kv_heads": 2},
    ],
)
def test_what_a_layer_may_have(kernels: Library, kind: dict[str, object]) -> None:
    layer, length = layer_of(**kind), 200
    qkv = random_qkv(layer, length)
    got = single_kernels.attend(layer, qkv, batch([(0, 0, range(length))], scattered_tables(1, length, 24)), kernels)
    assert (got - formula(layer, qkv)).abs().max() <= TOLERANCE["float32"]


@for_each("cache", CACHE_FORMATS)
def test_the_definition_is_the_formula(cache: CacheFormat) -> None:
    layer, length = layer_of(cache=cache, window=33, softcap=3.0, qk_norm=True), 70
    qkv = random_qkv(layer, length)
    got = reference.attend(layer, qkv, batch([(0, 0, range(length))], scattered_tables(1, length, 24)))
    assert (got - formula(layer, qkv)).abs().max() <= TOLERANCE[cache]


@for_each("cache", CACHE_FORMATS)
def test_pages_hold_what_the_definition_writes(kernels: Library, cache: CacheFormat) -> None:
    layer, other, length = layer_of(cache=cache), layer_of(cache=cache), 40
    qkv, step = random_qkv(layer, length), batch([(0, 0, range(length))], scattered_tables(1, length, 24))
    single_kernels.attend(layer, qkv, step, kernels)
    reference.attend(other, qkv, step)
    # The last bit of the rotation may differ, and so the number that it is rounded to.
    for got, expected in zip(
        *(read(one.pages, step.tables[0][0].tolist(), length) for one in (layer, other)), strict=True
    ):
        assert (got - expected).abs().max() <= {"float32": 1e-6, "bfloat16": 0.02, "int8": 0.04}[cache]


def piecewise(layer: LayerProgram, qkv: torch.Tensor, pieces: list[int], kernels: Library) -> torch.Tensor:
    """One sequence, so many tokens in each call."""
    tables, start, results = scattered_tables(1, len(qkv), 64), 0, []
    for piece in pieces:
        step = batch([(0, start, range(piece))], tables)
        results.append(single_kernels.attend(layer, qkv[start : start + piece], step, kernels))
        start += piece
    return torch.cat(results)


@for_each("cache", CACHE_FORMATS)
@for_each("window", [0, 100])
def test_chunks_and_threads_change_no_bit(kernels: Library, cache: CacheFormat, window: int) -> None:
    length = 600
    layer = layer_of(cache=cache, heads=6, kv_heads=2, window=window, rotated=0, pages=64)
    qkv = random_qkv(layer, length)
    whole = piecewise(fresh(layer), qkv, [length], kernels)
    for pieces in ([1] * 3 + [length - 3], [256, 256, 88], [599, 1], [300, 7, 293]):
        assert torch.equal(piecewise(fresh(layer), qkv, pieces, kernels), whole)
    for threads in (1, 3):
        kernels.set_threads(threads)
        assert torch.equal(piecewise(fresh(layer), qkv, [599, 1], kernels), whole)


@for_each("cache", CACHE_FORMATS)
def test_other_sequences_change_no_bit(kernels: Library, cache: CacheFormat) -> None:
    layer = layer_of(cache=cache, heads=4, kv_heads=2, pages=40)
    lengths = [3, 150, 40, 1]
    tables = scattered_tables(4, 150, 40)
    parts = [random_qkv(layer, length, seed) for seed, length in enumerate(lengths)]
    alone = [
        single_kernels.attend(fresh(layer), qkv, batch([(i, 0, range(len(qkv)))], tables), kernels)
        for i, qkv in enumerate(parts)
    ]
    step = batch([(i, 0, range(length)) for i, length in enumerate(lengths)], tables)
    assert torch.equal(single_kernels.attend(fresh(layer), torch.cat(parts), step, kernels), torch.cat(alone))


def test_pages_behind_the_window_are_not_needed(kernels: Library) -> None:
    layer, length = layer_of(window=20), 100
    qkv, tables = random_qkv(layer, length), scattered_tables(1, length, 24)
    before = single_kernels.attend(layer, qkv, batch([(0, 0, range(length))], tables), kernels)
    first_seen = length - 1 - (layer.window - 1)
    dropped = [[-1 if (i + 1) * PAGE <= first_seen else page for i, page in enumerate(tables[0])]]
    again = single_kernels.attend(layer, qkv[-1:], batch([(0, length - 1, [0])], dropped), kernels)
    assert dropped[0].count(-1) == 5 and torch.equal(again, before[-1:])


def test_inputs_stay_as_they_are(kernels: Library) -> None:
    layer = layer_of()
    qkv = random_qkv(layer, 5)
    before = qkv.clone()
    single_kernels.attend(layer, qkv, batch([(0, 0, range(5))], [[0]]), kernels)
    assert torch.equal(qkv, before)


@for_each(
    ("step", "message"),
    [
        (batch([(0, 16, [1])], [[0]]), "token 0 .* position"),
        (batch([(0, 3, [1]), (1, 0, [1])], [[0]]), "token 1 .* sequence"),
        (batch([(0, 3, [1])], [[-1]]), "token 0 .* page"),
        (batch([(0, 17, [1])], [[-1, 2]]), "token 0 .* page"),
        (batch([(0, 0, [1])], [[99]]), "token 0 .* page"),
    ],
)
def test_what_a_batch_does_not_have_is_refused(kernels: Library, step: RaggedBatch, message: str) -> None:
    layer = layer_of()
    with pytest.raises(ValueError, match=message):
        single_kernels.attend(layer, random_qkv(layer, len(step.positions)), step, kernels)
    assert not layer.pages.data.any()
