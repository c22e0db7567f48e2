"""Whole programs against their definition, and what may not change a completion: neighbours, chunks, threads."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from programs import batch, random_layer, random_matrix, random_norm, random_program, scattered_tables

from kit.tables import for_each
from lmworks.kernels import fused_operations, reference
from lmworks.kernels.c_structures import SITES
from lmworks.kernels.fused_operations import run
from lmworks.kernels.kv_pages import CACHE_FORMATS, CacheFormat
from lmworks.kernels.library import Library
from lmworks.kernels.packing import pack_weight
from lmworks.kernels.program import Adapter, LayerProgram, Program, RaggedBatch, in_large_pages
from lmworks.kernels.weight_formats import FORMATS, Format

IDS = np.random.default_rng(0).integers(0, 83, 200).tolist()
KINDS = [
    {},
    {"norm": "layer", "bias": True, "gated": False, "activation": "gelu", "rotated": 0},
    {"parallel": True, "activation": "gelu_tanh", "rotated": 8, "norm": "layer"},
    {"sandwich": True, "qk_norm": True, "softcap": 5.0, "window": 24, "activation": "gelu_tanh"},
    {"heads": 4, "kv_heads": 4, "head_dim": 32, "hidden": 64, "activation": "relu2"},
    {"width": 33, "hidden": 31, "heads": 2, "kv_heads": 2},
    {"pages": 0, "qk_norm": True},
    {"pages": 0, "bidirectional": True, "in_place": True, "norm": "layer", "bias": True, "gated": False, "rotated": 0},
]


def compare(program: Program, step: RaggedBatch, kernels: Library, tolerance: float) -> None:
    logits, best, log_normaliser, hidden = run(program, step, kernels, hidden=True)
    expected = reference.run(program, step, hidden=True)
    assert hidden is not None and expected.hidden is not None
    assert (logits - expected.logits).abs().max() <= tolerance
    assert (hidden - expected.hidden).abs().max() <= tolerance
    assert torch.equal(best, logits.argmax(dim=-1))
    assert torch.allclose(log_normaliser, logits.double().logsumexp(dim=-1).float(), rtol=1e-6, atol=1e-6)


@for_each("kind", KINDS)
def test_a_program_is_its_definition(kernels: Library, kind: dict[str, object]) -> None:
    program = random_program(**kind)  # type: ignore[arg-type]
    for length in (1, 5, 70):
        step = batch([(0, 0, IDS[:length])], scattered_tables(1, length, 24))
        compare(program, step, kernels, 3e-5)  # two layers, each with sums of some hundred products


@for_each("cache", ["float32", "bfloat16"])
def test_without_pages_a_query_sees_its_own_sequence_in_the_batch(kernels: Library, cache: CacheFormat) -> None:
    with_head = random_program(cache=cache, pages=0, bidirectional=True, in_place=True)
    program = replace(with_head, head=None)  # so small that the calling thread computes alone
    compared = [IDS[:70], IDS[70:75], IDS[75:200]]
    whole = replace(batch([(n, 0, ids) for n, ids in enumerate(compared)], [[]]), tables=())
    found, expected = (
        run(program, whole, kernels, hidden=True).hidden,
        reference.run(program, whole, hidden=True).hidden,
    )
    assert found is not None and expected is not None
    assert torch.equal(run(with_head, whole, kernels, hidden=True)[3], found)
    assert (found - expected).abs().max() < (3e-5 if cache == "float32" else 0.05)
    many = [ids for _ in range(4) for ids in compared]  # so many tokens that each thread computes some sequences alone
    large = replace(batch([(n, 0, ids) for n, ids in enumerate(many)], [[]]), tables=())
    assert torch.equal(run(program, large, kernels, hidden=True)[3], found.repeat(4, 1))
    for wanted in ([3, 210, 790], [790, 3, 210]):
        some = replace(large, logits_indices=np.array(wanted, np.int32))
        assert torch.equal(run(program, some, kernels, hidden=True)[3], found.repeat(4, 1)[wanted])
    for number, rows in enumerate(found.split([len(ids) for ids in compared])):
        alone = replace(batch([(0, 0, compared[number])], [[]]), tables=())
        assert torch.equal(run(program, alone, kernels, hidden=True).hidden, rows)


def test_layers_may_share_key_heads_differently(kernels: Library) -> None:
    """Memory for a tile's queries is as large as the layer needs that has most of them, wherever it stands."""
    generator = torch.Generator().manual_seed(0)
    layers = tuple(random_layer(generator, heads=heads, kv_heads=kv_heads) for heads, kv_heads in ((3, 3), (12, 1)))
    program = replace(random_program(), layers=layers)
    compare(program, batch([(0, 0, IDS[:70])], scattered_tables(1, 70, 24)), kernels, 3e-5)


@for_each("cache", CACHE_FORMATS)
@for_each("format_", FORMATS)
def test_every_format(kernels: Library, format_: Format, cache: CacheFormat) -> None:
    program = random_program(format_=format_, cache=cache)
    step = batch([(0, 0, IDS[:40]), (1, 0, IDS[40:47])], scattered_tables(2, 48, 24))
    # Where something is rounded, a last bit can turn a rounding, and every one that follows: steps of some hundredths.
    exact = format_ == "float32" and cache == "float32"
    compare(program, step, kernels, 3e-5 if exact else 0.25)


def test_embedding_scale_learned_positions_softcap_and_an_own_head(kernels: Library) -> None:
    generator = torch.Generator().manual_seed(3)
    program = replace(
        random_program(rotated=0),
        embedding_scale=3.5,
        positions=torch.randn(90, 48, generator=generator),
        head=random_matrix(generator, 1100, 48, "float32", bias=True),
        head_softcap=2.0,
    )
    step = batch([(0, 0, IDS[:30])], scattered_tables(1, 30, 24), wanted=[29, 0, 7])
    compare(program, step, kernels, 3e-5)
    assert run(program, step, kernels)[0].abs().max() <= 2


def test_layers_of_several_groups_have_tables_of_their_own(kernels: Library) -> None:
    program = random_program(layers=3)
    layers = tuple(replace(layer, group=i % 2) for i, layer in enumerate(program.layers))
    program = replace(program, layers=layers)
    step = batch([(0, 0, IDS[:40])], [[3, 9, 4]])
    step = replace(step, tables=(step.tables[0], np.array([[7, 1, 2]], dtype=np.int32)))
    compare(program, step, kernels, 3e-5)
    assert not layers[0].pages.data[[7, 1, 2]].any() and not layers[1].pages.data[[3, 9, 4]].any()


def in_pieces(program: Program, pieces: list[int], tables: list[list[int]], kernels: Library) -> torch.Tensor:
    """Logits of all tokens of one sequence, so many tokens in each call."""
    start, rows = 0, []
    for piece in pieces:
        rows.append(run(program, batch([(0, start, IDS[start : start + piece])], tables), kernels)[0])
        start += piece
    return torch.cat(rows)


@for_each("format_", FORMATS)
def test_chunks_neighbours_and_threads_change_no_bit(kernels: Library, format_: Format) -> None:
    program = random_program(format_=format_, cache="bfloat16", heads=6, kv_heads=2)
    tables = scattered_tables(2, 160, 24)
    alone = in_pieces(program, [140], tables, kernels)
    for pieces in ([1] * 140, [100, 1, 1, 38], [7] * 20):
        assert torch.equal(in_pieces(program, pieces, tables, kernels), alone)
    together = batch([(1, 0, IDS[50:200]), (0, 0, IDS[:140])], tables)
    assert torch.equal(run(program, together, kernels)[0][150:], alone)
    kernels.set_threads(1)
    assert torch.equal(run(program, together, kernels)[0][150:], alone)


def test_equal_logits_give_the_lowest_id(kernels: Library) -> None:
    program = random_program(vocabulary=2000)
    head = random_matrix(torch.Generator().manual_seed(0), 1, 48, "float32").dequantise().repeat(2000, 1)
    head[:1234] *= -1
    program = replace(program, head=pack_weight(head, "float32"))
    logits, best, *_ = run(program, batch([(0, 0, IDS[:20])], scattered_tables(1, 20, 24)), kernels)
    assert best.tolist() == [1234 if row[1234] > row[0] else 0 for row in logits]


def test_only_wanted_rows_are_computed_and_none_may_be_wanted(kernels: Library) -> None:
    program, tables = random_program(), scattered_tables(1, 20, 24)
    everything = run(program, batch([(0, 0, IDS[:20])], tables), kernels)[0]
    some = run(program, batch([(0, 0, IDS[:20])], tables, wanted=[19, 3]), kernels)[0]
    assert torch.equal(some, everything[[19, 3]])
    none = run(program, batch([(0, 0, IDS[:20])], tables, wanted=[]), kernels, hidden=True)
    assert [len(part) for part in none if part is not None] == [0, 0, 0, 0]


@for_each("format_", FORMATS)
def test_hidden_states_are_the_normed_ones_that_the_head_reads_and_change_nothing(
    kernels: Library, format_: Format
) -> None:
    program, tables = random_program(format_=format_), scattered_tables(1, 20, 24)
    step = batch([(0, 0, IDS[:20])], tables, wanted=[19, 3])
    plain, asked = run(program, step, kernels), run(program, step, kernels, hidden=True)
    assert plain.hidden is None and asked.hidden is not None
    assert (asked.hidden.shape, asked.hidden.dtype) == ((2, program.width), torch.float32)
    assert all(torch.equal(one, other) for one, other in zip(plain[:3], asked[:3], strict=True))
    product = fused_operations.linear(asked.hidden, program.head, kernels)  # rounds its rows as the head does
    assert torch.equal(product, asked.logits)
    alone = run(program, batch([(0, 0, IDS[:20])], tables, wanted=[3]), kernels, hidden=True).hidden
    assert alone is not None and torch.equal(alone[0], asked.hidden[1])


def nan_shows(program: Program, kernels: Library) -> torch.Tensor:
    return run(program, batch([(0, 0, IDS[:2])], [[0]]), kernels)[2]


@for_each("value", [float("nan"), float("inf")])
def test_a_logit_that_is_no_number_shows_in_the_normaliser(kernels: Library, value: float) -> None:
    program = random_program()
    head = random_matrix(torch.Generator().manual_seed(0), 83, 48, "float32", bias=True)
    assert head.bias is not None
    head.bias[40] = value
    assert not nan_shows(replace(program, head=head), kernels).isfinite().any()
    head.bias[40] = 0
    assert nan_shows(replace(program, head=head), kernels).isfinite().all()


# ---------------------------------------------------------------------------------------------------------------------
# Adapters


def random_adapter(program: Program, seed: int, rank: int) -> dict:
    generator = torch.Generator().manual_seed(seed)

    def change(first: int, rows: int, columns: int) -> Adapter:
        a = torch.randn(rank, columns, generator=generator) / columns**0.5
        return Adapter(first, a, torch.randn(rows, rank, generator=generator) / rank**0.5, 0.5)

    changes = {}
    for number, layer in enumerate(program.layers):
        size, width = layer.head_dim, program.width
        queries = layer.heads * size
        up = -(-layer.hidden // 32) * 32
        changes[number, "qkv"] = (change(0, queries, width), change(queries + size, size, width))
        changes[number, "output"] = (change(0, width, queries),)
        if number == 0:
            changes[number, "gate_up"] = (change(0, layer.hidden, width), change(up, layer.hidden, width))
            changes[number, "down"] = (change(0, width, layer.hidden),)
    return changes


@for_each("format_", FORMATS)
def test_adapters_are_their_definition(kernels: Library, format_: Format) -> None:
    program = random_program(format_=format_)
    program = replace(program, adapters=tuple(random_adapter(program, seed, rank) for seed, rank in ((1, 1), (2, 5))))
    parts = [(i, 0, IDS[10 * i : 10 * i + 9]) for i in range(3)]
    step = batch(parts, scattered_tables(3, 9, 24), adapters=[1] * 9 + [-1] * 9 + [0] * 9)
    compare(program, step, kernels, 3e-5 if format_ == "float32" else 0.25)


@for_each("format_", FORMATS)
def test_an_adapter_changes_no_bit_of_who_does_not_use_it(kernels: Library, format_: Format) -> None:
    plain = random_program(format_=format_)
    program = replace(plain, adapters=tuple(random_adapter(plain, seed, 3) for seed in (1, 2)))
    tables = scattered_tables(3, 20, 24)
    parts = [(0, 0, IDS[:20]), (1, 0, IDS[20:23]), (2, 0, IDS[30:50])]
    mixed = run(program, batch(parts, tables, adapters=[-1] * 20 + [0] * 3 + [1] * 20), kernels)[0]
    assert torch.equal(mixed[:20], run(plain, batch(parts[:1], tables), kernels)[0])
    assert torch.equal(mixed[20:23], run(program, batch(parts[1:2], tables, adapters=[0] * 3), kernels)[0])
    assert torch.equal(mixed[23:], run(program, batch(parts[2:], tables, adapters=[1] * 20), kernels)[0])
    assert not torch.equal(mixed[23:], run(plain, batch(parts[2:], tables), kernels)[0])


# ---------------------------------------------------------------------------------------------------------------------
# Errors


@for_each(
    ("step", "message"),
    [
        (batch([(0, 0, [1, 83])], [[0]]), "token 1 .* id"),
        (batch([(0, 0, [-1])], [[0]]), "token 0 .* id"),
        (batch([(0, 256, [1])], [list(range(24))]), "token 0 .* position"),
        (batch([(1, 0, [1])], [[0]]), "token 0 .* sequence"),
        (batch([(0, 0, [1])], [[24]]), "token 0 .* page"),
        (batch([(0, 0, [1])], [[0]], wanted=[1]), "row 0 .* wanted"),
        (batch([(0, 0, [1])], [[0]], adapters=[0]), "token 0 .* adapter"),
    ],
)
def test_what_a_batch_does_not_have_is_refused(kernels: Library, step: RaggedBatch, message: str) -> None:
    program = random_program()
    with pytest.raises(ValueError, match=message):
        run(program, step, kernels)
    assert not any(layer.pages.data.any() for layer in program.layers)


def test_arrays_of_another_kind_are_refused(kernels: Library) -> None:
    step = batch([(0, 0, [1, 2])], [[0]])
    with pytest.raises(ValueError, match="int32"):
        run(random_program(), replace(step, ids=step.ids.astype(np.int64)), kernels)
    for name in ("ids", "sequences", "adapters"):
        with pytest.raises(ValueError, match="one number for each token"):
            run(random_program(), replace(step, **{name: step.ids[:1]}), kernels)


def test_layers_whose_sizes_do_not_fit_are_refused(kernels: Library) -> None:
    program = random_program()
    layer: LayerProgram = replace(program.layers[0], kv_heads=3)
    with pytest.raises(ValueError, match="144 rows of qkv, not 80"):
        run(replace(program, layers=(layer,)), batch([(0, 0, [1])], [[0]]), kernels)


def test_norms_of_a_whole_program_are_not_the_identity() -> None:
    """Guards the tests above: with norms that do nothing they would not see one that is left out."""
    norm = random_norm(torch.Generator().manual_seed(0), 48)
    assert (norm.weight - 1).abs().max() > 0.1


# ---------------------------------------------------------------------------------------------------------------------
# Large pages


def test_a_moved_program_computes_the_same() -> None:
    program = random_program(format_="int4", bias=True)
    moved, step = in_large_pages(program), batch([(0, 0, [1, 2, 3])], [[0]])
    assert moved.head is moved.embedding and moved.nbytes == program.nbytes
    found, expected = (run(each, step, hidden=True) for each in (moved, program))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True) if a is not None and b is not None)


def test_a_head_with_a_bias_still_shares_its_weights() -> None:
    program = random_program()
    program = replace(program, head=replace(program.head, bias=torch.ones(program.vocabulary)))
    moved = in_large_pages(program)
    assert moved.head.values.data_ptr() == moved.embedding.values.data_ptr()
    assert moved.nbytes == program.nbytes


def test_matrices_lie_in_the_order_in_which_they_are_read() -> None:
    program = in_large_pages(random_program(layers=3))
    matrices = [getattr(layer, site) for layer in program.layers for site in SITES] + [program.head]
    places = [matrix.values.data_ptr() for matrix in matrices]
    ends = [place + matrix.values.nbytes for place, matrix in zip(places, matrices, strict=True)]
    assert all(0 <= place - end < 64 for place, end in zip(places[1:], ends, strict=False))
    assert all(place % 64 == 0 for place in places)
