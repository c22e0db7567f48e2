"""How far a student's next-token distribution is from its teacher's, as pure functions.

β = 0         KL(p ‖ q)                               p the teacher's, q the student's distribution
β = 1         KL(q ‖ p)
0 < β < 1     β KL(p ‖ m) + (1 - β) KL(q ‖ m)         m = β p + (1 - β) q     Agarwal et al. 2024, equation 1
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lmworks.model.heads import VocabularyProjection
from lmworks.train.losses import LOGITS_AT_A_TIME

# logits (rows, vocabulary) of these rows → their losses (rows,), and sums () of what is worth logging
LossOfLogits = Callable[[Tensor, slice], tuple[Tensor, Mapping[str, Tensor]]]


def divergence(student: Tensor, teacher: Tensor, beta: float) -> Tensor:
    """The divergence of log-probabilities (…, outcomes) of both: (…,) nats. What the teacher rules out, -inf, costs a
    student nothing that does not choose it."""
    if beta == 0:
        return _kl(teacher, student)
    if beta == 1:
        return _kl(student, teacher)
    mixture = torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))
    return beta * _kl(teacher, mixture) + (1 - beta) * _kl(student, mixture)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    impossible = p == -math.inf
    return (p.exp() * (p.masked_fill(impossible, 0.0) - q.masked_fill(impossible, 0.0))).sum(-1)


class Likeliest(NamedTuple):
    """The likeliest outcomes of distributions over a vocabulary, and all others as one.

    ids                (…, k) int64
    log_probabilities  (…, k + 1): of these, and of all others together; without the last where k is the vocabulary
    """

    ids: Tensor
    log_probabilities: Tensor


def likeliest(logits: Tensor, k: int, temperature: float = 1.0) -> Likeliest:
    """The `k` likeliest of softmax(logits / temperature), `logits` (…, vocabulary)."""
    log_probabilities = (logits / temperature).log_softmax(-1)
    ids = log_probabilities.topk(min(k, logits.shape[-1])).indices
    return Likeliest(ids, gathered(log_probabilities, ids))


def gathered(log_probabilities: Tensor, ids: Tensor) -> Tensor:
    """The log-probabilities (…, vocabulary) of `ids` (…, k), and of all others together: the outcomes of
    `Likeliest`. A divergence of them is a lower bound of that of the whole distributions."""
    chosen = log_probabilities.gather(-1, ids)
    if ids.shape[-1] == log_probabilities.shape[-1]:
        return chosen
    others = log_probabilities.scatter(-1, ids, -math.inf).logsumexp(-1, keepdim=True)
    return torch.cat((chosen, others), dim=-1)


def sum_over_logits(
    features: Tensor, projection: VocabularyProjection, loss_of: LossOfLogits, logits_at_a_time: int = LOGITS_AT_A_TIME
) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum, () float32 at least, of `loss_of` the logits of `features` (targets, width), differentiable by features
    and projection, and the sums of what it logs.

    Logits exist for some rows at a time only, as in `train.losses`: each chunk's gradient is taken in the forward, and
    that of features and weights alone is kept.
    """
    wide, inputs = torch.promote_types(features.dtype, torch.float32), [features, *filter(torch.is_tensor, projection)]
    trained = [n for n, tensor in enumerate(inputs) if tensor.requires_grad and torch.is_grad_enabled()]
    gradient_sums = {n: torch.zeros_like(inputs[n], dtype=wide) for n in trained}
    total, logged = features.new_zeros((), dtype=wide), dict[str, Tensor]()
    rows = max(logits_at_a_time // len(projection.weight), 1)
    for start in range(0, len(features), rows):
        chunk = slice(start, start + rows)
        leaves = [features[chunk].detach(), *(tensor.detach() for tensor in inputs[1:])]
        for n in gradient_sums:
            leaves[n].requires_grad_()
        losses, metrics = loss_of(projection.capped(F.linear(*leaves).to(wide)), chunk)
        total += losses.sum().detach()
        for name, value in metrics.items():
            logged[name] = logged.get(name, 0.0) + value.detach()
        gradients = torch.autograd.grad(losses.sum(), [leaves[n] for n in gradient_sums]) if gradient_sums else ()
        for (n, gradient_sum), gradient in zip(gradient_sums.items(), gradients, strict=True):
            (gradient_sum if n else gradient_sum[chunk]).add_(gradient)
    # Adds 0, with the gradient that was kept.
    products = [(inputs[n] * gradient).sum() for n, gradient in gradient_sums.items()]
    return sum((tensor - tensor.detach() for tensor in products), total), logged
