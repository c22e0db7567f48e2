"""Losses as pure functions: `(tensors, mask) -> Loss(sum, count, metrics)`.

A loss is never divided where it is computed. The loop divides once, by the count over the whole optimizer step, and so
it makes no difference into how many micro-batches, packed rows or ranks the targets of a step are split.

Losses over the vocabulary take features and the projection to it, in place of logits: `token_cross_entropy` where the
tokens' losses are summed, `token_log_probabilities` where each token has a weight of its own (preferences, policy
gradients, distillation).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.autograd.function import once_differentiable

from lmworks.kernels.training_kernels import SoftmaxLoss, softmax_loss
from lmworks.model.heads import VocabularyProjection
from lmworks.train.parallel.collectives import all_reduce
from lmworks.train.parallel.vocabulary_parallel import DividedProjection, SoftmaxStatistics

LOGITS_AT_A_TIME = 2**22  # of a projection: 8 MiB in bfloat16, which stay in a processor's cache

Projection = VocabularyProjection | DividedProjection


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """The sum of a loss over its targets, () float32 at least; the count of these targets; and sums over them of what
    else is worth logging, by name, () without gradient. The loop divides each metric by the count, as it does the loss.

    `nats` among the metrics stands for the loss wherever it is reported: without smoothing, penalties and weights.
    """

    sum: Tensor
    count: int
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


def reported(losses: Mapping[str, Loss]) -> dict[tuple[str, str], Tensor]:
    """(loss, metric) → the sum to report, () without gradient: as metric "loss" the nats where a loss has them, else
    its sum, and its other metrics by their names."""
    sums: dict[tuple[str, str], Tensor] = {}
    for name, loss in losses.items():
        metrics = {"loss": loss.sum, **loss.metrics}
        metrics["loss"] = metrics.pop("nats", loss.sum)
        sums |= {(name, metric): value.detach() for metric, value in metrics.items()}
    return sums


def metric_names(keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """(loss, metric) → its name in a log, for all but "loss": the metric's own, or of several losses LOSS_METRIC."""
    keys = list(keys)
    several = len({loss for loss, _ in keys}) > 1
    return {(loss, name): f"{loss}_{name}" if several else name for loss, name in keys if name != "loss"}


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
    statistics = _softmax_statistics(logits, targets, mean=bool(label_smoothing))
    return CrossEntropy(_losses(statistics, label_smoothing, z_loss).sum(), statistics.nats.detach())


def token_cross_entropy(
    features: Tensor,
    projection: Projection,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    logits_at_a_time: int = LOGITS_AT_A_TIME,
) -> CrossEntropy:
    """`cross_entropy` of the logits of `features` (targets, width), of which only a few exist at any time.

    The gradient of a cross-entropy is known as soon as the logits are: softmax - q. So each chunk's logits become
    gradients of features and weights in the forward, and are gone; what is kept is of the size of these.

    Of a `DividedProjection`, each device of the group calls it with the same features, and has the same numbers.
    """
    settings = _Settings(projection, label_smoothing, z_loss, _rows(projection, logits_at_a_time), summed=True)
    return CrossEntropy(*_TokenLoss.apply(features, *projection[:2], targets, settings))  # type: ignore[misc]


def token_log_probabilities(
    features: Tensor, projection: Projection, targets: Tensor, *, logits_at_a_time: int = LOGITS_AT_A_TIME
) -> Tensor:
    """log p of each target, (targets,) float32 at least, differentiable by features and projection; arguments as in
    `token_cross_entropy`.

    What each token weighs in a loss is known in the backward alone, which computes each chunk's logits again.
    """
    settings = _Settings(projection, 0.0, 0.0, _rows(projection, logits_at_a_time), summed=False)
    losses, _ = _TokenLoss.apply(features, *projection[:2], targets, settings)  # type: ignore[misc]
    return -losses


class _Settings(NamedTuple):
    """`rows` is the number of targets in a chunk; `summed` says whether the sum of the losses is wanted, or each."""

    projection: Projection
    smoothing: float
    z_loss: float
    rows: int
    summed: bool


class _TokenLoss(torch.autograd.Function):
    """(loss of each target, or their sum; -log p of each target)."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, settings: _Settings
    ) -> tuple[Tensor, Tensor]:
        ctx.settings = settings
        needs_grad = ctx.needs_input_grad[:3] if settings.summed else (False, False, False)
        losses, nats, gradients = _in_chunks(features, targets, settings, needs_grad)
        ctx.save_for_backward(*(gradients if settings.summed else (features, weight, bias, targets)))
        ctx.mark_non_differentiable(nats)
        return losses.sum() if settings.summed else losses, nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore
        of_losses, _ = grad_outputs
        if ctx.settings.summed:
            return (*(None if gradient is None else gradient * of_losses for gradient in ctx.saved_tensors), None, None)
        features, weight, bias, targets = ctx.saved_tensors
        settings = ctx.settings._replace(projection=ctx.settings.projection._replace(weight=weight, bias=bias))
        *_, gradients = _in_chunks(features, targets, settings, ctx.needs_input_grad[:3], of_losses)
        return (*gradients, None, None)


def _in_chunks(
    features: Tensor, targets: Tensor, settings: _Settings, needs_grad: Sequence[bool], weights: Tensor | None = None
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Losses and -log p, (targets,) each; and of Σ weight · loss, with `weights` (targets,) or 1, the gradients by
    features, weight and bias, None for each that does not need one (`needs_grad`)."""
    projection = settings.projection
    weight, bias = projection[:2]
    of_features, of_weight, of_bias = needs_grad
    # Sums over chunks are float32 at least: bfloat16 would drop what is small next to what is there already.
    wide = _wide(features)
    losses, nats = features.new_empty(2, len(targets), dtype=wide)
    grad_features = torch.empty_like(features) if of_features else None
    grad_weight = torch.zeros_like(weight, dtype=wide) if of_weight else None
    grad_bias = torch.zeros_like(bias, dtype=wide) if bias is not None and of_bias else None
    for start in range(0, len(targets), settings.rows):
        chunk = slice(start, start + settings.rows)
        logits = F.linear(features[chunk], weight, bias)  # (rows, vocabulary, or this device's part of it)
        losses[chunk], nats[chunk], gradient = _chunk(logits, targets[chunk], settings, any(needs_grad))
        if gradient is None:
            continue
        if weights is not None:
            gradient *= weights[chunk, None]
        if grad_bias is not None:
            grad_bias += gradient.sum(dim=0, dtype=wide)
        gradient = gradient.to(features.dtype)
        if grad_features is not None:
            grad_features[chunk] = gradient @ weight
        if grad_weight is not None:
            grad_weight += gradient.T @ features[chunk]
    if grad_features is not None and isinstance(projection, DividedProjection):
        grad_features = all_reduce(grad_features, projection.group)
    return losses, nats, [grad_features, grad_weight, grad_bias]


def _chunk(
    logits: Tensor, targets: Tensor, settings: _Settings, needs_grad: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Losses and -log p (rows,) of uncapped logits, and where it is needed each loss's gradient by them, which may take
    their memory."""
    projection, smoothing, z_loss = settings[:3]
    find_statistics = _softmax_statistics
    if isinstance(projection, DividedProjection):
        find_statistics = projection.softmax_statistics
    elif projection.softcap is None and (fused := softmax_loss(logits, targets, smoothing, z_loss)) is not None:
        return _losses(fused, smoothing, z_loss), fused.nats, logits
    logits, slope = logits.to(_wide(logits)), None
    if projection.softcap is not None:
        slope = logits.div_(projection.softcap).tanh_()
        logits = slope * projection.softcap
        slope.square_().neg_().add_(1)  # d(cap · tanh(x / cap)) / dx
    statistics = find_statistics(logits, targets, mean=bool(smoothing))
    losses = _losses(statistics, smoothing, z_loss)
    if not needs_grad:
        return losses, statistics.nats, None
    # p (1 + 2 z log Z) - q, in the memory of the logits
    log_z = statistics.log_z[:, None]
    gradient = logits.sub_(log_z).exp_()
    if z_loss:
        gradient *= 1 + 2 * z_loss * log_z
    if smoothing:
        gradient -= smoothing / statistics.vocabulary
    gradient.scatter_add_(-1, statistics.column[:, None], (smoothing - 1) * statistics.present[:, None])
    return losses, statistics.nats, gradient if slope is None else gradient.mul_(slope)


def _softmax_statistics(logits: Tensor, targets: Tensor, mean: bool) -> SoftmaxStatistics:
    log_z = logits.logsumexp(dim=-1)
    nats = log_z - logits.gather(-1, targets[:, None]).squeeze(-1)
    means = logits.mean(dim=-1) if mean else nats
    return SoftmaxStatistics(log_z, nats, means, targets, torch.ones_like(log_z), logits.shape[-1])


def _losses(statistics: SoftmaxStatistics | SoftmaxLoss, smoothing: float, z_loss: float) -> Tensor:
    losses = statistics.nats
    if smoothing:  # or a logit of -inf, whose mean is none, would spoil what it is no part of
        losses = (1 - smoothing) * losses + smoothing * (statistics.log_z - statistics.means)
    return losses + z_loss * statistics.log_z.square() if z_loss else losses


def _rows(projection: Projection, logits_at_a_time: int) -> int:
    """Targets in a chunk, the same on all devices of a group."""
    largest = projection.largest if isinstance(projection, DividedProjection) else len(projection.weight)
    return max(logits_at_a_time // largest, 1)


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
