"""How far a student's next-token distribution is from its teacher's, as pure functions.

β = 0         KL(p ‖ q)                               p the teacher's, q the student's distribution
β = 1         KL(q ‖ p)
0 < β < 1     β KL(p ‖ m) + (1 - β) KL(q ‖ m)         m = β p + (1 - β) q     Agarwal et al. 2024, equation 1

Logits over a vocabulary exist for some rows at a time only, as in `train.losses`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.autograd.function import once_differentiable

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
    found = log_probabilities.gather(-1, ids)
    if ids.shape[-1] == log_probabilities.shape[-1]:
        return found
    others = log_probabilities.scatter(-1, ids, -math.inf).logsumexp(-1, keepdim=True)
    return torch.cat((found, others), dim=-1)


def sum_over_logits(
    features: Tensor,
    projection: VocabularyProjection,
    loss_of: LossOfLogits,
    logits_at_a_time: int = LOGITS_AT_A_TIME,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum, () float32 at least, of `loss_of` the logits of `features` (targets, width), differentiable by features
    and projection, and the sums of what it logs.

    Each chunk's gradient is taken in the forward, where its logits are, and only that of features and weights is kept.
    """
    logged: dict[str, Tensor] = {}
    rows = max(logits_at_a_time // len(projection.weight), 1)
    total = _LossOfChunks.apply(features, *projection[:2], projection, loss_of, rows, logged)
    return total, logged  # type: ignore[return-value]


class _LossOfChunks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        projection: VocabularyProjection,
        loss_of: LossOfLogits,
        rows: int,
        logged: dict[str, Tensor],
    ) -> Tensor:
        wide = torch.promote_types(features.dtype, torch.float32)
        wanted = any(ctx.needs_input_grad[:3])
        total = features.new_zeros((), dtype=wide)
        of_features, of_weight = torch.zeros_like(features), torch.zeros_like(weight, dtype=wide)
        of_bias = None if bias is None else torch.zeros_like(bias, dtype=wide)
        for start in range(0, len(features), rows):
            chunk = slice(start, start + rows)
            logits = F.linear(features[chunk], weight, bias).to(wide).requires_grad_(wanted)
            with torch.set_grad_enabled(wanted):
                losses, metrics = loss_of(projection.capped(logits), chunk)
                loss = losses.sum()
            total += loss.detach()
            for name, value in metrics.items():
                logged[name] = logged.get(name, 0.0) + value.detach()
            if wanted:
                (gradient,) = torch.autograd.grad(loss, logits)
                if of_bias is not None:
                    of_bias += gradient.sum(0)
                gradient = gradient.to(features.dtype)
                of_features[chunk] = gradient @ weight
                of_weight += gradient.T @ features[chunk]
        ctx.save_for_backward(of_features, of_weight, of_bias)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore
        gradients = [None if kept is None else kept * grad_outputs[0] for kept in ctx.saved_tensors]
        return (*gradients, None, None, None, None)
