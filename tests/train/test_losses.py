"""The losses against torch's, against autograd, and against themselves in other chunks."""

import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kit.tables import for_each
from lmworks.model.heads import VocabularyProjection
from lmworks.train.losses import cross_entropy, token_cross_entropy, token_log_probabilities

SETTINGS = [{}, {"label_smoothing": 0.1}, {"z_loss": 0.01}, {"label_smoothing": 0.2, "z_loss": 0.003}]


def a_projection(generator, softcap=None, bias=True, vocabulary=23, width=8, dtype=torch.float32):
    weight = torch.randn(vocabulary, width, generator=generator).to(dtype).requires_grad_()
    added = torch.randn(vocabulary, generator=generator).to(dtype).requires_grad_() if bias else None
    return VocabularyProjection(weight, added, softcap)


@for_each("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs(smoothing):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 23, generator=generator) * 3
    targets = torch.randint(23, (50,), generator=generator)
    ours = cross_entropy(logits, targets, label_smoothing=smoothing)
    torch.testing.assert_close(ours.sum, F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="sum"))
    torch.testing.assert_close(ours.nats, F.cross_entropy(logits, targets, reduction="none"))


def test_z_loss_is_the_square_of_the_normaliser():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]])
    targets = torch.tensor([1, 2])
    penalty = cross_entropy(logits, targets, z_loss=0.5).sum - cross_entropy(logits, targets).sum
    torch.testing.assert_close(penalty, 0.5 * logits.exp().sum(dim=1).log().square().sum())


@for_each("dtype", [torch.float32, torch.float64])  # with the kernel, and without
@for_each("softcap", [None, 5.0])
@for_each("bias", [True, False])
def test_gradients_in_chunks_are_autograds(bias, softcap, dtype):
    generator = torch.Generator().manual_seed(1)
    projection = a_projection(generator, softcap, bias, dtype=dtype)
    features = torch.randn(37, 8, generator=generator).to(dtype).requires_grad_()
    targets = torch.randint(23, (37,), generator=generator)
    inputs = [features, projection.weight, *([projection.bias] if bias else [])]
    rtol, atol = (1e-5, 1e-6) if dtype == torch.float32 else (1e-12, 1e-13)

    for settings in SETTINGS:
        whole = cross_entropy(projection(features), targets, **settings)
        expected = torch.autograd.grad(whole.sum / 7, inputs)
        parts = token_cross_entropy(features, projection, targets, logits_at_a_time=5 * 23, **settings)
        torch.testing.assert_close((parts.sum, parts.nats), (whole.sum, whole.nats))
        torch.testing.assert_close(torch.autograd.grad(parts.sum / 7, inputs), expected, rtol=rtol, atol=atol)

    weights = torch.randn(37, generator=generator).to(dtype)  # of each token, known after its log-probability
    naive = projection(features).log_softmax(dim=-1).gather(-1, targets[:, None]).squeeze(-1)
    found = token_log_probabilities(features, projection, targets, logits_at_a_time=5 * 23)
    torch.testing.assert_close(found, naive)
    expected = torch.autograd.grad(naive.exp() @ weights, inputs)
    torch.testing.assert_close(torch.autograd.grad(found.exp() @ weights, inputs), expected, rtol=rtol, atol=atol)


@given(rows=st.integers(0, 40), at_a_time=st.integers(1, 2000))
def test_the_size_of_chunks_changes_nothing(rows, at_a_time):
    generator = torch.Generator().manual_seed(rows)
    projection = a_projection(generator)
    features = torch.randn(rows, 8, generator=generator).requires_grad_()
    targets = torch.randint(23, (rows,), generator=generator)
    results = []
    for size in (at_a_time, 10**6):
        loss = token_cross_entropy(features, projection, targets, logits_at_a_time=size)
        log_p = token_log_probabilities(features, projection, targets, logits_at_a_time=size)
        totals = (loss.sum, log_p.square().sum())
        gradients = [torch.autograd.grad(total, [features, projection.weight]) for total in totals]
        results.append((loss.sum, loss.nats, log_p, *gradients))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


def test_the_logits_of_all_tokens_never_exist():
    """Neither in the forward, nor in the backward, nor between the two."""
    rows, vocabulary = 64, 1000
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(vocabulary, 8, generator=generator).requires_grad_()
    features = torch.randn(rows, 8, generator=generator).requires_grad_()
    targets = torch.randint(vocabulary, (rows,), generator=generator)
    for softcap in (None, 5.0):
        with _LargestTensor() as largest:
            log_p = token_log_probabilities(
                features, VocabularyProjection(weight, None, softcap), targets, logits_at_a_time=4 * vocabulary
            )
            log_p.square().sum().backward()
        assert largest.values == 8 * vocabulary  # the gradient of the weight


class _LargestTensor(TorchDispatchMode):
    """The number of values of the largest tensor that any operation makes."""

    values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.values = max(self.values, tensor.numel())
        return made


def test_what_needs_no_gradient_gets_none():
    generator = torch.Generator().manual_seed(2)
    projection = a_projection(generator)
    frozen = VocabularyProjection(projection.weight.detach(), None)
    features = torch.randn(9, 8, generator=generator).requires_grad_()
    targets = torch.randint(23, (9,), generator=generator)
    token_cross_entropy(features, frozen, targets).sum.backward()
    assert features.grad is not None
    assert frozen.weight.grad is None
    assert not token_cross_entropy(features.detach(), frozen, targets).sum.requires_grad


def test_bfloat16_sums_chunks_in_float32():
    """A thousand equal chunks: a running sum in bfloat16 would stop growing at 256 times a summand."""
    generator = torch.Generator().manual_seed(3)
    exact = a_projection(generator, bias=False)
    low = VocabularyProjection(exact.weight.detach().bfloat16().requires_grad_(), None)
    row = torch.randn(1, 8, generator=generator).bfloat16()
    features, targets = row.expand(1000, 8).contiguous(), torch.full((1000,), 4)
    (one,) = torch.autograd.grad(token_cross_entropy(row, low, targets[:1]).sum, [low.weight])
    (many,) = torch.autograd.grad(token_cross_entropy(features, low, targets, logits_at_a_time=23).sum, [low.weight])
    torch.testing.assert_close(many.float(), 1000 * one.float(), rtol=1e-2, atol=0)


def test_a_logit_that_is_never_chosen_spoils_nothing():
    """A bias of -inf takes an entry out of the vocabulary."""
    features, weight, bias = torch.randn(5, 4), torch.randn(8, 4), torch.zeros(8)
    bias[7] = -torch.inf
    targets = torch.arange(5)
    found = token_cross_entropy(features, VocabularyProjection(weight, bias, None), targets)
    expected = cross_entropy(features @ weight.T + bias, targets)
    torch.testing.assert_close(found.sum, expected.sum)
