"""The losses against torch's, against autograd, and against themselves in other chunks."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st

from lmworks.model.heads import VocabularyProjection
from lmworks.train.losses import cross_entropy, projected_cross_entropy

SETTINGS = [{}, {"label_smoothing": 0.1}, {"z_loss": 0.01}, {"label_smoothing": 0.2, "z_loss": 0.003}]


def a_projection(generator, softcap=None, bias=True, vocabulary=23, width=8, dtype=torch.float32):
    weight = torch.randn(vocabulary, width, generator=generator).to(dtype).requires_grad_()
    added = torch.randn(vocabulary, generator=generator).to(dtype).requires_grad_() if bias else None
    return VocabularyProjection(weight, added, softcap)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
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


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_in_chunks_are_autograds(settings, softcap, bias):
    """Double precision would hide nothing of the formula: float32 agrees to its rounding."""
    generator = torch.Generator().manual_seed(1)
    projection = a_projection(generator, softcap, bias)
    features = torch.randn(37, 8, generator=generator).requires_grad_()
    targets = torch.randint(23, (37,), generator=generator)
    inputs = [features, projection.weight, *([projection.bias] if bias else [])]

    whole = cross_entropy(projection(features), targets, **settings)
    expected = torch.autograd.grad(whole.sum / 7, inputs)
    parts = projected_cross_entropy(features, projection, targets, logits_at_a_time=5 * 23, **settings)
    torch.testing.assert_close(parts.sum, whole.sum)
    torch.testing.assert_close(parts.nats, whole.nats)
    for ours, theirs in zip(torch.autograd.grad(parts.sum / 7, inputs), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@given(rows=st.integers(0, 40), at_a_time=st.integers(1, 2000))
def test_the_size_of_chunks_changes_nothing(rows, at_a_time):
    generator = torch.Generator().manual_seed(rows)
    projection = a_projection(generator)
    features = torch.randn(rows, 8, generator=generator).requires_grad_()
    targets = torch.randint(23, (rows,), generator=generator)
    results = []
    for size in (at_a_time, 10**6):
        loss = projected_cross_entropy(features, projection, targets, logits_at_a_time=size)
        results.append([loss.sum, loss.nats, *torch.autograd.grad(loss.sum, [features, projection.weight])])
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)


def test_what_needs_no_gradient_gets_none():
    generator = torch.Generator().manual_seed(2)
    projection = a_projection(generator)
    frozen = VocabularyProjection(projection.weight.detach(), None)
    features = torch.randn(9, 8, generator=generator).requires_grad_()
    targets = torch.randint(23, (9,), generator=generator)
    projected_cross_entropy(features, frozen, targets).sum.backward()
    assert features.grad is not None
    assert frozen.weight.grad is None
    assert not projected_cross_entropy(features.detach(), frozen, targets).sum.requires_grad


def test_bfloat16_sums_chunks_in_float32():
    """A thousand equal chunks: a running sum in bfloat16 would stop growing at 256 times a summand."""
    generator = torch.Generator().manual_seed(3)
    exact = a_projection(generator, bias=False)
    low = VocabularyProjection(exact.weight.detach().bfloat16().requires_grad_(), None)
    row = torch.randn(1, 8, generator=generator).bfloat16()
    features, targets = row.expand(1000, 8).contiguous(), torch.full((1000,), 4)
    (one,) = torch.autograd.grad(projected_cross_entropy(row, low, targets[:1]).sum, [low.weight])
    (many,) = torch.autograd.grad(
        projected_cross_entropy(features, low, targets, logits_at_a_time=23).sum, [low.weight]
    )
    torch.testing.assert_close(many.float(), 1000 * one.float(), rtol=1e-2, atol=0)


def test_a_logit_that_is_never_chosen_spoils_nothing():
    """A bias of -inf takes an entry out of the vocabulary."""
    features, weight, bias = torch.randn(5, 4), torch.randn(8, 4), torch.zeros(8)
    bias[7] = -torch.inf
    targets = torch.arange(5)
    found = projected_cross_entropy(features, VocabularyProjection(weight, bias, None), targets)
    expected = cross_entropy(features @ weight.T + bias, targets)
    torch.testing.assert_close(found.sum, expected.sum)
