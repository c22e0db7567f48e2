"""Attention against its formula, written out in float64 one query at a time, with values and gradients."""

import os
import shutil
from itertools import product

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

from kit.tables import for_each
from lmworks.model import dot_product_attention as module
from lmworks.model import masks
from lmworks.model.dot_product_attention import attend

BATCH, HEADS, LENGTH, STORED, HEAD_DIM = 2, 4, 7, 11, 8


def formula(query, key, value, scale, mask=None, causal=False, bias=None, softcap=None, sinks=None):
    """One query of one head at a time, with Python's loops and a softmax made of exponentials."""
    batch, heads, length, _ = query.shape
    group = heads // key.shape[1]
    shape = (batch, heads, length, key.shape[2])
    mask = torch.ones(shape, dtype=torch.bool) if mask is None else mask.expand(shape)
    if causal:
        mask = mask & torch.ones(shape[2:], dtype=torch.bool).tril()
    bias = query.new_zeros(shape) if bias is None else bias.expand(shape)
    output = []
    for row, head, at in product(range(batch), range(heads), range(length)):
        keys, values = key[row, head // group], value[row, head // group]
        seen = mask[row, head, at]
        scores = scale * (keys[seen] @ query[row, head, at])
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        weights = (scores + bias[row, head, at, seen]).exp()
        total = weights.sum() + (0 if sinks is None else sinks[head].exp())
        output.append((weights / total) @ values[seen])
    return torch.stack(output).view(query.shape[:3] + value.shape[-1:])


def draw(dtype, kv_heads, stored):
    generator = torch.Generator().manual_seed(0)
    shapes = ((HEADS, LENGTH), (kv_heads, stored), (kv_heads, stored))
    return [
        torch.randn(BATCH, *shape, HEAD_DIM, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes
    ]


def parts(dtype, names, stored, generator):
    """The named parts: mask, bias, softcap and sinks."""
    mask = torch.rand(BATCH, 1, LENGTH, stored, generator=generator) < 0.6
    mask[..., 0] = True  # no row is empty
    every = {
        "mask": mask,
        "bias": torch.randn(1, HEADS, LENGTH, stored, generator=generator, dtype=torch.float64).to(dtype),
        "softcap": 1.5,
        "sinks": torch.randn(HEADS, generator=generator, dtype=torch.float64).to(dtype),
    }
    return {name: every[name] for name in names}


COMBINATIONS = [
    [name for name, present in zip(("mask", "bias", "softcap", "sinks"), chosen, strict=True) if present]
    for chosen in product((False, True), repeat=4)
]
# float64: rounding of sums of ten numbers. float32: the same, 2^-24 each. bfloat16 keeps 8 bits, and the weights are
# rounded to them before the product with the values.
TOLERANCE = {torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 3e-2}


@for_each("kv_heads", [4, 2, 1])
@for_each("kind", ["causal", "all", "cross", "one query"])
@for_each("names", COMBINATIONS)
def test_every_combination(names, kind, kv_heads):
    stored = LENGTH if kind in ("causal", "all") else STORED
    causal = kind == "causal" and "mask" not in names
    for dtype, tolerance in TOLERANCE.items():
        given = parts(dtype, names, stored, torch.Generator().manual_seed(1))
        tensors = draw(dtype, kv_heads, stored)
        if kind == "one query":
            tensors[0] = tensors[0][:, :, -1:]
            given |= {name: given[name][:, :, -1:] for name in ("mask", "bias") if name in given}
        exact = {name: p.double() if name in ("bias", "sinks") else p for name, p in given.items()}
        expected = formula(*(t.double() for t in tensors), 0.4, causal=causal, **exact)
        found = attend(*tensors, scale=0.4, causal=causal, **given)
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=tolerance)


@for_each("kv_heads", [4, 2])
@for_each("names", COMBINATIONS)
def test_gradients_of_every_combination(names, kv_heads):
    given = parts(torch.float64, names, LENGTH, torch.Generator().manual_seed(1))
    tensors = draw(torch.float64, kv_heads, LENGTH)
    learned = [*tensors, *(given[name] for name in ("bias", "sinks") if name in given)]
    for tensor in learned:
        tensor.requires_grad_()
    upstream = torch.randn(
        BATCH, HEADS, LENGTH, HEAD_DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    causal = "mask" not in names
    found = torch.autograd.grad(attend(*tensors, scale=0.4, causal=causal, **given), learned, upstream)
    expected = torch.autograd.grad(formula(*tensors, 0.4, causal=causal, **given), learned, upstream)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)


@for_each("bias_queries", [1, 5])
def test_the_plain_formula_in_pieces(monkeypatch, bias_queries):
    """More queries than it takes at a time; a mask or a bias that is the same for all queries is not cut."""
    generator = torch.Generator().manual_seed(3)
    query, key, value = (torch.randn(1, 2, 5, 4, dtype=torch.float64, generator=generator) for _ in range(3))
    bias = torch.randn(1, 2, bias_queries, 5, dtype=torch.float64, generator=generator)
    mask = torch.tensor([True, False, True, True, True])[None, None, None]
    expected = formula(query, key, value, 0.5, mask=mask, bias=bias, softcap=2.0)
    for size in (1, 2, 5, 6):
        monkeypatch.setattr(module, "QUERIES_AT_A_TIME", size)
        found = attend(query, key, value, scale=0.5, mask=mask, bias=bias, softcap=2.0)
        torch.testing.assert_close(found, expected, atol=1e-13, rtol=1e-13)


def test_nothing_of_size_n_by_n_is_held():
    """2048² float32 scores of one head would be 16 MiB; what the fast path allocates stays below a quarter of that."""
    query = torch.randn(1, 4, 2048, 16)
    key, value = torch.randn(2, 1, 2, 2048, 16)
    with torch.profiler.profile(profile_memory=True) as profile:
        attend(query, key, value, scale=0.25, causal=True)
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert 0 < largest < 4 * 2**20


class TestFlexAttention:
    """A block mask gives what the dense mask of the same rule gives."""

    @staticmethod
    def compare(window: int, length: int, softcap: float | None, tolerance: float) -> None:
        rule = masks.both(masks.causal, lambda row, query, key: query - key < window)
        real = torch.arange(length) < torch.tensor([[length], [length - 50]])  # the second row ends in padding
        generator = torch.Generator().manual_seed(0)
        query = torch.randn(2, 4, length, 16, generator=generator)
        key, value = (torch.randn(2, 2, length, 16, generator=generator) for _ in range(2))
        blocks = masks.blockwise(rule, 2, length, real, query.device)
        places = torch.arange(length)[None]
        dense = masks.dense(rule, 2, places, places) & masks.padding(real)
        with torch.no_grad():
            found = attend(query, key, value, scale=0.3, mask=blocks, softcap=softcap)
            expected = attend(query, key, value, scale=0.3, mask=dense, softcap=softcap)
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)

    @pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
    @for_each("softcap", [None, 1.5])
    def test_its_definition(self, softcap, monkeypatch):
        """Uncompiled, as PyTorch defines it; the tolerance is float32's rounding in another order."""
        monkeypatch.setattr(module, "compiled_flex_attention", lambda: flex_attention)
        self.compare(40, 200, softcap, 2e-6)

    @pytest.mark.slow
    @pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="compiling needs a C++ compiler")
    @pytest.mark.parametrize("softcap", [None, 1.5])
    def test_compiled(self, softcap, monkeypatch, tmp_path):
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
        module.compiled_flex_attention.cache_clear()
        self.compare(40, 300, softcap, 2e-6)
