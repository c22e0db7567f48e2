"""The tiled algorithm against PyTorch's attention: the same values and gradients, whatever the tiles."""

import pytest
import tiled_attention as tiled_module
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from tiled_attention import tiled_attention

from kit.tables import for_each
from lmworks.model import masks


def draw(dtype, length, stored, heads=4, kv_heads=2, seed=0, size=1.0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(heads, length), (kv_heads, stored), (kv_heads, stored), (heads, length)]
    tensors = [torch.randn(2, *shape, 8, generator=generator, dtype=torch.float64) for shape in shapes]
    query, key, value, upstream = (tensor.to(dtype) for tensor in tensors)
    return [(query * size).requires_grad_(), key.requires_grad_(), value.requires_grad_()], upstream


def with_gradients(attention, inputs, upstream):
    output = attention(*inputs)
    return [output, *torch.autograd.grad(output, inputs, upstream)]


def both(inputs, upstream, rule, **tiles):
    """Output and three gradients, of the tiled algorithm and of PyTorch's."""
    queries, keys = (torch.arange(inputs[i].shape[2])[None] for i in (0, 1))
    mask = masks.dense(rule, inputs[0].shape[0], queries, keys)

    def theirs(query, key, value):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.4, enable_gqa=True)

    def ours(query, key, value):
        return tiled_attention(query, key, value, scale=0.4, rule=rule, **tiles)

    return with_gradients(ours, inputs, upstream), with_gradients(theirs, inputs, upstream)


RULES = {
    "causal": masks.causal,
    "everything": masks.everything,
    "prefix": masks.prefixes(torch.zeros(2, 23), torch.arange(23) < torch.tensor([[9], [2]])),
    "window": masks.both(
        masks.causal, lambda row, query, key: query - key < 5
    ),  # rows with nothing in their first tile
    "antidiagonal": lambda row, query, key: (key == 22 - query) | (key == 0) & (query == 0),  # one key each, last first
}


@for_each("kv_heads", [4, 2, 1])
@for_each("tile", [(4, 4), (8, 3), (5, 16), (64, 64)])
@for_each("name", RULES)
def test_values_and_gradients(name, tile, kv_heads):
    inputs, upstream = draw(torch.float64, 23, 23, kv_heads=kv_heads)
    ours, theirs = both(inputs, upstream, RULES[name], query_tile=tile[0], key_tile=tile[1])
    torch.testing.assert_close(ours, theirs, atol=1e-13, rtol=1e-12)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 50), st.integers(1, 50), st.integers(0, 9))
def test_uneven_lengths_and_tiles_under_any_rule(length, stored, query_tile, key_tile, seed):
    """Cross-attention lengths, tiles that divide nothing, and a random mask in which every query sees a key."""
    inputs, upstream = draw(torch.float64, length, stored, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    table = torch.rand(2, length, stored, generator=generator) < 0.3
    table[:, torch.arange(length), torch.randint(stored, (length,), generator=generator)] = True

    def rule(row, query, key):
        return table[row, query, key]

    ours, theirs = both(inputs, upstream, rule, query_tile=query_tile, key_tile=key_tile)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


@for_each("size", [1.0, 200.0])
def test_single_precision(size):
    """Scores of up to 400 would overflow without the maximum. Both round: to 2^-24 of a score's size at each step."""
    inputs, upstream = draw(torch.float32, 100, 100, size=size)
    exact, exact_upstream = draw(torch.float64, 100, 100, size=size)
    ours, _ = both(inputs, upstream, masks.causal, query_tile=16, key_tile=16)
    _, expected = both(exact, exact_upstream, masks.causal)
    for found, wanted in zip(ours, expected, strict=True):
        error = (found.double() - wanted).abs().max()
        assert error <= 2e-6 * size * wanted.abs().max()


def test_half_precision_adds_up_in_single():
    inputs, upstream = draw(torch.bfloat16, 100, 100)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    ours, _ = both(inputs, upstream, masks.causal, query_tile=16, key_tile=16)
    _, expected = both(exact, upstream.double(), masks.causal)
    for found, wanted in zip(ours, expected, strict=True):
        assert found.dtype == torch.bfloat16
        # One rounding of the output to 8 bits, which the gradients inherit; 100 roundings would leave ten times more.
        assert (found.double() - wanted).abs().max() <= 2**-7 * wanted.abs().max()


def test_gradcheck():
    inputs, _ = draw(torch.float64, 6, 6, heads=2, kv_heads=1)

    def attention(query, key, value):
        return tiled_attention(query, key, value, scale=0.4, rule=masks.causal, query_tile=4, key_tile=2)

    assert torch.autograd.gradcheck(attention, inputs)


def test_a_second_derivative_is_refused():
    inputs, _ = draw(torch.float64, 4, 4)
    loss = tiled_attention(*inputs, scale=1.0).square().sum()
    (first,) = torch.autograd.grad(loss, inputs[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@for_each(("rule", "expected"), [(masks.causal, 4 * 5 // 2), (RULES["window"], 7), (masks.everything, 16)])
def test_tiles_without_work_are_skipped(monkeypatch, rule, expected):
    """32 queries and keys in tiles of 8: causality leaves a triangle of tiles, a window of 5 the diagonal and the tiles
    left of it."""
    computed = []
    scores = tiled_module._scores
    monkeypatch.setattr(tiled_module, "_scores", lambda *arguments: computed.append(1) or scores(*arguments))
    inputs, upstream = draw(torch.float32, 32, 32)
    tiled_attention(*inputs, scale=0.4, rule=rule, query_tile=8, key_tile=8).backward(upstream)
    assert len(computed) == 2 * expected  # forward, and again backward


def test_what_is_kept_for_the_backward_pass():
    """Inputs, output and one number per row: nothing of the size of the scores."""
    inputs, _ = draw(torch.float64, 50, 70)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        tiled_attention(*inputs, scale=0.4, query_tile=8, key_tile=8)
    sizes = sorted(tensor.numel() for tensor in kept)
    rows = 2 * 4 * 50
    assert sizes == sorted([rows, rows * 8, rows * 8, 2 * 2 * 70 * 8, 2 * 2 * 70 * 8])
