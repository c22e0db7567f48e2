"""Losses as pure functions: tensors and a mask in, a sum and a count out.

A loss is never divided where it is computed. The loop divides once, by the count over the whole optimizer step, and so
it makes no difference into how many micro-batches, packed rows or ranks the targets of a step are split.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lmworks.kernels.training_kernels import softmax_loss
from lmworks.model.heads import VocabularyProjection

LOGITS_AT_A_TIME = 2**22  # of `projected_cross_entropy`: 8 MiB in bfloat16, which stay in a processor's cache


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """The sum of a loss over its targets, () float32 at least, how many they are, and sums of what else is worth
    knowing."""

    sum: Tensor
    count: int
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class CrossEntropy(NamedTuple):
    """sum   () float32: what is minimised, with smoothing and z-loss, over all targets.
    nats  (targets,) float32: -log p of each target, without gradient.
    """

    sum: Tensor
    nats: Tensor


def cross_entropy(
    logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0, z_loss: float = 0.0
) -> CrossEntropy:
    """Σ over targets of -Σ_v q(v) log p(v) + `z_loss` · log² Z.

    logits           (targets, vocabulary); p is their softmax, in float32 at least, and Z its normaliser.
    targets          (targets,) int64.
    label_smoothing  ε of q = (1 - ε) one-hot + ε / vocabulary (Szegedy et al. 2016, section 7).
    z_loss           keeps log Z near 0, where low precision is precise (Chowdhery et al. 2022, section 5: 1e-4).
    """
    logits = logits.to(_wide(logits))
    log_z = logits.logsumexp(dim=-1)
    nats = log_z - logits.gather(-1, targets[:, None]).squeeze(-1)
    loss = nats
    if label_smoothing:
        loss = (1 - label_smoothing) * nats + label_smoothing * (log_z - logits.mean(dim=-1))
    if z_loss:
        loss = loss + z_loss * log_z.square()
    return CrossEntropy(loss.sum(), nats.detach())


def projected_cross_entropy(
    features: Tensor,
    projection: VocabularyProjection,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    logits_at_a_time: int = LOGITS_AT_A_TIME,
) -> CrossEntropy:
    """`cross_entropy` of the logits of `features` (targets, width), of which only a few exist at any time.

    The gradient of a cross-entropy is known as soon as the logits are: softmax - q. So each chunk's logits become
    gradients of features and weights in the forward, and are gone; what is kept is of the size of these.
    """
    weight, bias, softcap = projection
    settings = (softcap, label_smoothing, z_loss, max(logits_at_a_time // len(weight), 1))
    return CrossEntropy(*_ProjectedCrossEntropy.apply(features, weight, bias, targets, settings))  # type: ignore[misc]


class _ProjectedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        settings: tuple[float | None, float, float, int],
    ) -> tuple[Tensor, Tensor]:
        softcap, smoothing, z_loss, rows = settings
        wanted = context.needs_input_grad
        # Sums over chunks are float32 at least: bfloat16 would drop what is small beside what is there already.
        wide = _wide(features)
        total, nats = features.new_zeros((), dtype=wide), features.new_empty(len(targets), dtype=wide)
        grad_features = torch.empty_like(features) if wanted[0] else None
        grad_weight = torch.zeros_like(weight, dtype=wide) if wanted[1] else None
        grad_bias = torch.zeros_like(bias, dtype=wide) if bias is not None and wanted[2] else None
        for start in range(0, len(targets), rows):
            chunk = slice(start, start + rows)
            logits = F.linear(features[chunk], weight, bias)  # (rows, vocabulary)
            part, gradient = _differentiated(logits, targets[chunk], softcap, smoothing, z_loss, any(wanted))
            total += part.sum
            nats[chunk] = part.nats
            if gradient is None:
                continue
            if grad_bias is not None:
                grad_bias += gradient.sum(dim=0, dtype=wide)
            gradient = gradient.to(features.dtype)
            if grad_features is not None:
                grad_features[chunk] = gradient @ weight
            if grad_weight is not None:
                grad_weight += gradient.T @ features[chunk]
        context.save_for_backward(grad_features, grad_weight, grad_bias)
        context.mark_non_differentiable(nats)
        return total, nats

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        above, _ = grad_outputs
        gradients = (None if kept is None else kept * above for kept in ctx.saved_tensors)
        return (*gradients, None, None)


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _differentiated(
    logits: Tensor, targets: Tensor, softcap: float | None, smoothing: float, z_loss: float, wanted: bool
) -> tuple[CrossEntropy, Tensor | None]:
    """`cross_entropy` of capped logits, and where it is wanted its gradient by them, which may take their memory."""
    found = None if softcap is not None else softmax_loss(logits, targets, smoothing, z_loss)
    if found is not None:
        log_z, nats, means = found
        loss = nats
        if smoothing:  # or a logit of -inf, whose mean is none, would spoil what it is no part of
            loss = (1 - smoothing) * nats + smoothing * (log_z - means)
        return CrossEntropy((loss + z_loss * log_z.square()).sum(), nats), logits
    logits, slope = logits.to(_wide(logits)), None
    if softcap is not None:
        slope = logits.div_(softcap).tanh_()
        logits = slope * softcap
        slope.square_().neg_().add_(1)  # d(cap · tanh(x / cap)) / dx
    part = cross_entropy(logits, targets, label_smoothing=smoothing, z_loss=z_loss)
    if not wanted:
        return part, None
    gradient = _gradient(logits, targets, smoothing, z_loss)
    return part, gradient if slope is None else gradient.mul_(slope)


def _gradient(logits: Tensor, targets: Tensor, smoothing: float, z_loss: float) -> Tensor:
    """Of `cross_entropy`'s sum by its logits, in their memory: p (1 + 2 z log Z) - q."""
    log_z = logits.logsumexp(dim=-1, keepdim=True)
    gradient = logits.sub_(log_z).exp_()
    if z_loss:
        gradient *= 1 + 2 * z_loss * log_z
    if smoothing:
        gradient -= smoothing / gradient.shape[-1]
    return gradient.scatter_add_(-1, targets[:, None], log_z.new_full(log_z.shape, smoothing - 1))
