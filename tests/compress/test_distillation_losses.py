"""Divergences beside torch's KL divergence and TRL's `generalized_jsd_loss`, and their sums over chunks of logits."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from kit.tables import for_each
from lmworks.compress.distillation_losses import divergence, gathered, likeliest, sum_over_logits
from lmworks.model.heads import VocabularyProjection

BETAS = pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 1.0])


def logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def trl_jsd(student: np.ndarray, teacher: np.ndarray, beta: float, temperature: float) -> np.ndarray:
    """TRL's `GKDTrainer.generalized_jsd_loss` before its reduction, in its own steps."""

    def log_softmax(values: np.ndarray) -> np.ndarray:
        return values - np.log(np.exp(values).sum(-1, keepdims=True))

    q, p = log_softmax(student / temperature), log_softmax(teacher / temperature)
    if beta == 0:
        return (np.exp(p) * (p - q)).sum(-1)
    if beta == 1:
        return (np.exp(q) * (q - p)).sum(-1)
    mixture = np.logaddexp(q + np.log(1 - beta), p + np.log(beta))
    return (beta * np.exp(p) * (p - mixture) + (1 - beta) * np.exp(q) * (q - mixture)).sum(-1)


@BETAS
def test_it_is_the_generalised_jensen_shannon_divergence_of_trl(beta):
    student, teacher = logits(7, 11), logits(7, 11, seed=1)
    found = divergence((student / 1.7).log_softmax(-1), (teacher / 1.7).log_softmax(-1), beta)
    np.testing.assert_allclose(found, trl_jsd(student.numpy(), teacher.numpy(), beta, 1.7), rtol=1e-12)


@for_each("reverse", [False, True])
def test_its_ends_and_their_gradients_are_torchs_kl_divergence(reverse):
    student, teacher = logits(7, 11).requires_grad_(), logits(7, 11, seed=1).log_softmax(-1)
    own = divergence(student.log_softmax(-1), teacher, beta=float(reverse)).sum()
    q = student.log_softmax(-1)
    theirs = F.kl_div(teacher, q, log_target=True, reduction="sum")
    if not reverse:
        theirs = F.kl_div(q, teacher, log_target=True, reduction="sum")
    torch.testing.assert_close(own, theirs, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(loss, student, retain_graph=True)[0] for loss in (own, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)


def test_what_the_teacher_rules_out_has_no_probability_and_no_gradient_that_is_no_number():
    teacher = torch.tensor([[0.0, 1.0, -torch.inf]]).log_softmax(-1)
    student = torch.tensor([[0.5, 0.5, 3.0]], requires_grad=True)
    found = divergence(student.log_softmax(-1), teacher, 0.0)
    expected = F.kl_div(student.log_softmax(-1), teacher.exp(), reduction="sum")
    torch.testing.assert_close(found[0], expected)
    assert torch.autograd.grad(found.sum(), student)[0].isfinite().all()


@BETAS
def test_the_likeliest_of_a_whole_vocabulary_lose_nothing_and_fewer_are_a_lower_bound(beta):
    student, teacher = logits(5, 9), logits(5, 9, seed=1)
    log_q = (student / 2).log_softmax(-1)
    whole = divergence(log_q, (teacher / 2).log_softmax(-1), beta)
    bounds = []
    for k in (1, 4, 8, 9):
        found = likeliest(teacher, k, temperature=2.0)
        torch.testing.assert_close(found.log_probabilities.exp().sum(-1), torch.ones(5, dtype=torch.float64))
        assert found.ids.shape == (5, k)
        bounds.append(divergence(gathered(log_q, found.ids), found.log_probabilities, beta))
    torch.testing.assert_close(bounds[-1], whole, rtol=1e-12, atol=0)
    torch.testing.assert_close(bounds[-2], whole, rtol=1e-9, atol=0)  # the others are one token
    assert (bounds[0] < bounds[1]).all() and (bounds[1] < whole).all()


def test_a_sum_over_chunks_has_the_gradients_of_the_whole():
    """With a cap and a bias, as no chunk's gradient is then a mere product of matrices."""
    features, weight, bias = logits(13, 6).requires_grad_(), logits(11, 6, seed=1), logits(11, seed=2)
    weight.requires_grad_(), bias.requires_grad_()
    teacher, projection = logits(13, 11, seed=3).log_softmax(-1), VocabularyProjection(weight, bias, softcap=3.0)

    def loss_of(values: torch.Tensor, rows: slice) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        found = divergence(values.log_softmax(-1), teacher[rows], 0.4)
        return 2.5 * found, {"divergence": found.sum()}

    inputs = (features, weight, bias)
    whole, _ = loss_of(projection(features), slice(None))
    expected = torch.autograd.grad(whole.sum(), inputs)
    for places in (11, 40, 1000):
        total, logged = sum_over_logits(features, projection, loss_of, places)
        torch.testing.assert_close(total, whole.sum(), rtol=1e-12, atol=0)
        torch.testing.assert_close(logged["divergence"], whole.sum() / 2.5)
        for own, theirs in zip(torch.autograd.grad(total, inputs), expected, strict=True):
            torch.testing.assert_close(own, theirs, rtol=1e-9, atol=1e-12)
