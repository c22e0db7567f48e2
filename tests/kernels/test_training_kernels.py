"""The kernels of training against their definitions."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from kit.tables import for_each
from lmworks.kernels import fused_operations, library, training_kernels
from lmworks.kernels.library import Library
from lmworks.kernels.packing import pack_weight
from lmworks.kernels.weight_formats import Format, dequantise, quantise
from lmworks.model import masks
from lmworks.model.presets import gpt2, llama
from lmworks.model.stack import Stack
from lmworks.model.transformer import Transformer
from lmworks.train.losses import cross_entropy
from model.tiled_attention import tiled_attention
from slow_cases import slow

# Sums of a few hundred products of about 1, in float32; outputs rounded to bfloat16, 2^-9 of themselves, and inside of
# the backward weights and their gradients too.
TOLERANCES = {torch.float32: 2e-6, torch.bfloat16: 8e-3}


def _inputs(shape: tuple[int, ...], kv_heads: int, dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
    """Query, key, value and the gradient of the output, as projections lie in memory."""
    batch, heads, length, width = shape
    generator = torch.Generator().manual_seed(seed)
    counts = (heads, kv_heads, kv_heads, heads)
    return [torch.randn(batch, length, count, width, generator=generator).to(dtype).transpose(1, 2) for count in counts]


def _runs(batch: int, length: int, seed: int) -> tuple[training_kernels.KeyRanges, Tensor]:
    """Random runs of keys, and the mask (batch, 1, length, length) that they stand for."""
    generator = torch.Generator().manual_seed(seed)
    ends = torch.randint(length, (2, batch, length), generator=generator)
    first, last = ends.amin(dim=0), ends.amax(dim=0)
    keys = torch.arange(length)
    mask = (keys >= first[..., None]) & (keys <= last[..., None])
    return training_kernels.KeyRanges(first.int(), last.int()), mask[:, None]


def _defined(query: Tensor, key: Tensor, value: Tensor, gradient: Tensor, scale: float, mask: Tensor) -> list[Tensor]:
    """Output and gradients by the definition, in float64."""
    leaves = [tensor.detach().double().requires_grad_() for tensor in (query, key, value)]
    rule: masks.Predicate = lambda row, q, k: mask[row.expand(len(mask), 1, *mask.shape[2:]), 0, q, k]  # noqa: E731
    output = tiled_attention(*leaves, scale=scale, rule=rule, query_tile=4096, key_tile=4096)
    output.backward(gradient.double())
    return [output.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def _apart(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


@for_each("dtype", TOLERANCES)
@for_each(("shape", "kv_heads"), [((2, 4, 200, 32), 2), ((1, 3, 97, 48), 3), ((2, 2, 1, 16), 1), ((1, 1, 64, 128), 1)])
def test_attention_is_its_definition(
    kernels: Library, dtype: torch.dtype, shape: tuple[int, ...], kv_heads: int
) -> None:
    query, key, value, gradient = _inputs(shape, kv_heads, dtype)
    scale = 0.7 * shape[-1] ** -0.5
    causal = torch.ones(shape[2], shape[2], dtype=torch.bool).tril().expand(shape[0], 1, -1, -1)
    for seen, mask in ((None, causal), _runs(shape[0], shape[2], 1)):
        output, log_sum = training_kernels.attend(query, key, value, scale, seen, kernels)
        found = training_kernels.attend_backward(query, key, value, output, log_sum, gradient, scale, seen, kernels)
        for name, ours, expected in zip(
            ("output", "query", "key", "value"),
            (output, *found),
            _defined(query, key, value, gradient, scale, mask),
            strict=True,
        ):
            # A single key has the weight 1, and the gradients of its query and key are 0.
            if expected.norm() > 1e-6:
                assert _apart(ours, expected) < TOLERANCES[dtype], name
            else:
                assert float(ours.norm()) < 1e-2, name


@given(length=st.integers(1, 230), seed=st.integers(0, 2**20))
def test_attention_of_any_runs(length: int, seed: int) -> None:
    query, key, value, gradient = _inputs((1, 2, length, 16), 2, torch.float32, seed)
    seen, mask = _runs(1, length, seed)
    output, log_sum = training_kernels.attend(query, key, value, 0.25, seen)
    found = training_kernels.attend_backward(query, key, value, output, log_sum, gradient, 0.25, seen)
    for ours, expected in zip((output, *found), _defined(query, key, value, gradient, 0.25, mask), strict=True):
        # Not relative to themselves alone: where every run is short, gradients are differences that cancel.
        assert float((ours.double() - expected).abs().max()) < 5e-6 * (1 + float(expected.abs().max()))


def test_bits_do_not_depend_on_threads_batch_or_memory(kernels: Library) -> None:
    query, key, value, gradient = _inputs((3, 4, 150, 32), 2, torch.bfloat16)

    def both(rows: slice, copied: bool = False) -> list[Tensor]:
        given = [tensor[rows].contiguous() if copied else tensor[rows] for tensor in (query, key, value)]
        q, k, v = given
        output, log_sum = training_kernels.attend(q, k, v, 0.2, None, kernels)
        return [output, *training_kernels.attend_backward(q, k, v, output, log_sum, gradient[rows], 0.2, None, kernels)]

    whole = both(slice(None))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone, contiguous = both(slice(1, 2)), both(slice(None), copied=True)
    finally:
        torch.set_num_threads(threads)
    for ours, one, other in zip(whole, alone, contiguous, strict=True):
        assert torch.equal(ours[1:2], one)
        assert torch.equal(ours, other)


def test_training_takes_as_many_threads_as_pytorch_and_inference_keeps_its_own(kernels: Library) -> None:
    query, key, value, _ = _inputs((1, 2, 200, 16), 1, torch.float32)
    matrix, used = pack_weight(torch.eye(64), "int8"), kernels.functions.lmworks_threads
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for own in (2, 1):
            kernels.set_threads(own)
            training_kernels.attend(query, key, value, 0.25, None, kernels)
            assert (used(), kernels.threads) == (3, own)
            fused_operations.linear(torch.ones(1, 64), matrix, kernels)
            assert used() == own
    finally:
        torch.set_num_threads(threads)


@for_each(
    ("change", "message"),
    [
        ({"first": torch.zeros(1, 8, dtype=torch.int32)}, "contiguous int32 of shape"),
        ({"last": torch.zeros(1, 9, dtype=torch.int64)}, "contiguous int32 of shape"),
        ({"last": torch.full((1, 9), 9, dtype=torch.int32)}, "9 queries see keys outside of the 9"),
        ({"first": torch.full((1, 9), 8, dtype=torch.int32)}, "a query sees no key"),
        ({"first": torch.full((1, 9), -1, dtype=torch.int32)}, "9 queries see keys outside of the 9"),
    ],
)
def test_runs_that_the_keys_do_not_have_are_refused(change: dict[str, Tensor], message: str) -> None:
    query, key, value, _ = _inputs((1, 2, 9, 16), 1, torch.float32)
    seen = _runs(1, 9, 0)[0]._replace(**change)
    with pytest.raises(ValueError, match=message):
        training_kernels.attend(query, key, value, 0.25, seen)


def test_shapes_that_do_not_go_together_are_refused() -> None:
    query, key, value, _ = _inputs((1, 2, 9, 16), 1, torch.float32)
    with pytest.raises(ValueError, match="do not go with keys"):
        training_kernels.attend(query, key, value[:, :, :4], 0.25, None)
    with pytest.raises(ValueError, match="say which are seen"):
        training_kernels.attend(query, key[:, :, :4], value[:, :, :4], 0.25, None)


@for_each("dtype", TOLERANCES)
@for_each("vocabulary", [1, 15, 16, 1003])
@for_each(("smoothing", "z_loss"), [(0.0, 0.0), (0.1, 1e-2)])
def test_softmax_loss_is_cross_entropy(
    kernels: Library, dtype: torch.dtype, vocabulary: int, smoothing: float, z_loss: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(37, vocabulary, generator=generator)).to(dtype)
    targets = torch.randint(vocabulary, (37,), generator=generator)
    leaf = logits.double().requires_grad_()
    expected = cross_entropy(leaf, targets, label_smoothing=smoothing, z_loss=z_loss)
    expected.sum.backward()
    found = training_kernels.softmax_loss(logits, targets, smoothing, z_loss, kernels)
    assert found is not None and leaf.grad is not None
    torch.testing.assert_close(found.nats.double(), expected.nats, atol=5e-6, rtol=1e-5)
    torch.testing.assert_close(found.log_z.double(), leaf.detach().logsumexp(-1), atol=5e-6, rtol=1e-6)
    torch.testing.assert_close(found.means.double(), leaf.detach().mean(-1), atol=5e-6, rtol=1e-5)
    rounding = 2**-8 if dtype == torch.bfloat16 else 2e-6
    torch.testing.assert_close(logits.double(), leaf.grad, atol=1e-6, rtol=rounding)


def test_a_sure_prediction_keeps_its_small_gradient(kernels: Library) -> None:
    """p - 1 is small where p is nearly 1, and bfloat16 has no number between 0.996 and 1."""
    logits = torch.zeros(1, 32, dtype=torch.bfloat16)
    logits[0, 3] = 12.0
    wrong = 31 / (31 + torch.tensor(12.0).double().exp())
    training_kernels.softmax_loss(logits, torch.tensor([3]), 0.0, 0.0, kernels)
    assert float(logits[0, 3]) == pytest.approx(-float(wrong), rel=2**-8)


@for_each("dtype", [torch.float32, torch.bfloat16])
@for_each("form", ["int8", "int4"])
def test_dequantised_weights_are_those_of_the_format(kernels: Library, form: Format, dtype: torch.dtype) -> None:
    weight = torch.randn(150, 170, generator=torch.Generator().manual_seed(0))  # no multiples of 32
    expected = dequantise(quantise(weight, form)).to(dtype)
    matrix = pack_weight(weight, form, bias=torch.ones(150))
    assert torch.equal(training_kernels.dequantise(matrix, dtype, kernels), expected)
    for part in ((slice(32, 96), slice(None)), (slice(64, 999), slice(96, 128)), (slice(32), slice(128, 170))):
        assert torch.equal(training_kernels.dequantise(matrix.part(*part), dtype, kernels), expected[part])


def test_a_target_outside_of_the_vocabulary_is_refused(kernels: Library) -> None:
    with pytest.raises(ValueError, match="outside the vocabulary of 8"):
        training_kernels.softmax_loss(torch.zeros(2, 8), torch.tensor([0, 8]), 0.0, 0.0, kernels)


@pytest.mark.parametrize(
    ("family", "backend"),
    [(llama, None), (gpt2, None), (gpt2, "aot_eager"), *slow((gpt2, "inductor"))],
)
def test_a_model_has_the_gradients_that_it_has_without_the_kernel(
    monkeypatch: pytest.MonkeyPatch, family: object, backend: str | None
) -> None:
    config = llama(97, 32, 2, 2, 1, 64, 128) if family is llama else gpt2(97, 32, 2, 2, context_length=128)
    torch.manual_seed(0)
    model = Transformer(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ids = torch.randint(97, (3, 70))
    rule = masks.documents(torch.arange(70).expand(3, -1) // torch.tensor([[70], [31], [9]]), causal=True)
    calls = []
    attend = training_kernels.attend
    monkeypatch.setattr(training_kernels, "attend", lambda *given: (calls.append(1), attend(*given))[1])

    def gradients(with_kernel: bool) -> dict[str, Tensor]:
        if not with_kernel:
            monkeypatch.setattr("lmworks.model.stack.has_kernel", lambda *given: False)
        model.zero_grad()
        model.hidden(ids, rule=rule).square().sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    if backend is not None:
        assert isinstance(model.decoder, Stack)
        for block in model.decoder.blocks:
            block.compile(backend=backend)
    ours, theirs = gradients(True), gradients(False)
    assert len(calls) == 2  # one for each layer
    for name, gradient in theirs.items():
        assert float((ours[name] - gradient).norm()) < 2e-5 * float(gradient.norm()) + 1e-5, name


@pytest.mark.parametrize(
    ("family", "padded"),
    [
        *(("llama", True), ("gpt2", False)),
        *slow(("llama", False), ("gpt2", True)),
    ],
)
@pytest.mark.usefixtures("fresh_compiler")
def test_a_whole_model_compiles_to_one_graph(monkeypatch: pytest.MonkeyPatch, family: str, padded: bool) -> None:
    """With our kernel; with padding, of which a graph cannot know where it stands, with PyTorch's."""
    model = Transformer(
        llama(97, 32, 2, 2, 1, 64, 128) if family == "llama" else gpt2(97, 32, 2, 2, context_length=128)
    )
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    ids = torch.randint(97, (3, 20))
    real = torch.arange(20) < torch.tensor([[20], [13], [1]])
    calls = []
    attend = training_kernels.attend
    monkeypatch.setattr(training_kernels, "attend", lambda *given: (calls.append(1), attend(*given))[1])

    def run(forward: Callable[..., Tensor]) -> list[Tensor]:
        model.zero_grad()
        logits = forward(ids, attention_mask=real if padded else None)[real]
        logits.square().sum().backward()
        return [logits.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    compiled = run(torch.compile(model, fullgraph=True, backend="aot_eager"))
    assert len(calls) == (0 if padded else 2)  # one for each layer
    for ours, eager in zip(compiled, run(model), strict=True):
        # float32 with operations in another order
        torch.testing.assert_close(ours, eager, atol=1e-5, rtol=1e-4)


def test_a_key_that_is_not_seen_spoils_nothing(kernels: Library) -> None:
    query, key, value, _ = _inputs((1, 2, 100, 16), 2, torch.float32)
    key[:, :, 50] = torch.nan
    output, _ = training_kernels.attend(query, key, value, 0.25, None, kernels)
    assert bool(output[:, :, :50].isfinite().all())
    assert bool(output[:, :, 50:].isnan().all())


def test_autocast_to_a_format_without_a_kernel() -> None:
    torch.manual_seed(0)
    model = Transformer(llama(97, 32, 1, 2, 1, 64, 128))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ids = torch.randint(97, (1, 20))
    expected = model.hidden(ids).detach()
    with torch.autocast("cpu", torch.float16):
        found = model.hidden(ids).detach()
    assert float((found.float() - expected).norm() / expected.norm()) < 1e-2  # float16 has 11 bits


def test_tangents_go_the_way_that_knows_them() -> None:
    """The kernel has a backward and no forward derivative, which would be silently nothing: with documents PyTorch
    composes attention of operations that have one."""
    torch.manual_seed(0)
    model = Transformer(llama(97, 32, 1, 2, 1, 64, 128))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ids, name = torch.randint(97, (1, 20)), "decoder.blocks.0.attention.query.weight"
    weights = dict(model.named_parameters())
    direction = torch.randn_like(weights[name])
    rule = masks.documents(torch.arange(20)[None] // 7, causal=True)

    def loss(weight: Tensor) -> Tensor:
        return torch.func.functional_call(model, {name: weight}, (ids,), {"rule": rule}).square().mean()

    with sdpa_kernel(SDPBackend.MATH):
        _, tangent = torch.func.jvp(loss, (weights[name].detach(),), (direction,))
    gradient = torch.autograd.grad(loss(weights[name]), weights[name])[0]
    assert float(tangent) == pytest.approx(float((gradient * direction).sum()), rel=1e-3)


def test_there_are_libraries() -> None:
    assert library.available()


def test_the_compiler_is_told_what_is_constant_as_its_decorator_tells_it():
    assert vars(training_kernels._is_there) == vars(torch.compiler.assume_constant_result(lambda: True))


def test_sharp_attention_has_no_subnormal_gradients(kernels: Library) -> None:
    # Which a processor multiplies fifty times as slowly, here and in the projections that they go to.
    query, key, value, gradient = _inputs((1, 2, 256, 64), 2, torch.float32)
    query, gradient = 100 * query, 1e-6 * gradient
    output, log_sum = training_kernels.attend(query, key, value, 0.125, None, kernels)
    for found in training_kernels.attend_backward(query, key, value, output, log_sum, gradient, 0.125, None, kernels):
        assert not ((found != 0) & (found.abs() < torch.finfo(torch.float32).tiny)).any()
