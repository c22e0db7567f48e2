"""The vocabulary divided among devices: its rows of the embedding, its columns of the logits, and the loss over them
(Shoeybi et al. 2019, section 3)."""

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.distributed import ProcessGroup

from lmworks.model.heads import VocabularyProjection
from lmworks.train.losses import LOGITS_AT_A_TIME, CrossEntropy
from lmworks.train.parallel.collectives import add, all_reduce, enter, join


class VocabularyEmbedding:
    """Of an `nn.Embedding` whose `weight` holds the rows from `first` on: other tokens' vectors are other devices'."""

    first: int
    tensor_group: ProcessGroup
    weight: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        """(…) int64 → (…, width), whole on each device."""
        rows = ids - self.first
        mine = (rows >= 0) & (rows < len(self.weight))
        vectors = F.embedding(rows.where(mine, 0), self.weight) * mine[..., None]  # (…, width)
        return add(vectors, self.tensor_group)


class DividedProjection(NamedTuple):
    """A `VocabularyProjection` of which each device of a group has a part.

    weight      (this device's part of the vocabulary, width), `bias` of the same rows; `softcap` as there.
    vocabulary  the number of all rows, divided as `torch.chunk` does: the last part may be smaller.
    """

    weight: Tensor
    bias: Tensor | None
    softcap: float | None
    vocabulary: int
    group: ProcessGroup

    @property
    def first(self) -> int:
        """The first row of this device's part."""
        return self.group.rank() * self.largest

    @property
    def largest(self) -> int:
        """Rows of the largest part."""
        return -(-self.vocabulary // self.group.size())

    def __call__(self, features: Tensor) -> Tensor:
        """(…, width) → all logits (…, vocabulary), on each device."""
        logits = VocabularyProjection(self.weight, self.bias, self.softcap)(enter(features, self.group))
        logits = F.pad(logits, (0, self.largest - logits.shape[-1]))
        return join(logits, self.group, dim=-1)[..., : self.vocabulary]


class DividedHead:
    """Of a head whose last projection, and its bias, are divided."""

    vocabulary: int
    tensor_group: ProcessGroup

    def projection_to_vocabulary(self, tokens: Tensor) -> DividedProjection:
        whole = super().projection_to_vocabulary(tokens)  # type: ignore[misc]
        return DividedProjection(*whole, vocabulary=self.vocabulary, group=self.tensor_group)


# ---------------------------------------------------------------------------------------------------------------------


def divided_cross_entropy(
    features: Tensor,
    projection: DividedProjection,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    logits_at_a_time: int = LOGITS_AT_A_TIME,
) -> CrossEntropy:
    """`losses.projected_cross_entropy` where each device has a part of each token's logits: the same numbers on all.

    Of a token's logits only the maximum, the sum of exponentials, the target's and, with smoothing, the sum are
    exchanged; and at the end the gradient of `features` (targets, width), which is whole again.
    """
    rows = max(logits_at_a_time // len(projection.weight), 1)
    settings = (projection, label_smoothing, z_loss, rows)
    return CrossEntropy(*_DividedCrossEntropy.apply(features, *projection[:2], targets, settings))  # type: ignore[misc]


class _DividedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        settings: tuple[DividedProjection, float, float, int],
    ) -> tuple[Tensor, Tensor]:
        projection, smoothing, z_loss, rows = settings
        wanted = ctx.needs_input_grad
        dtype = torch.promote_types(features.dtype, torch.float32)
        total, nats = features.new_zeros((), dtype=dtype), features.new_empty(len(targets), dtype=dtype)
        grad_features = torch.empty_like(features) if wanted[0] else None
        grad_weight = torch.zeros_like(weight, dtype=dtype) if wanted[1] else None
        grad_bias = torch.zeros_like(bias, dtype=dtype) if bias is not None and wanted[2] else None
        for start in range(0, len(targets), rows):
            chunk = slice(start, start + rows)
            uncapped = F.linear(features[chunk], weight, bias).to(dtype)  # (rows, part of the vocabulary)
            logits = VocabularyProjection(weight, bias, projection.softcap).capped(uncapped)
            seen = _exchange(logits, targets[chunk], projection, smoothing)
            losses = seen.log_z - seen.target
            nats[chunk] = losses
            if smoothing:
                losses = losses + smoothing * (seen.target - seen.total / projection.vocabulary)
            total += (losses + z_loss * seen.log_z.square()).sum()
            if not any(wanted):
                continue
            gradient = _gradient(logits, seen, projection.vocabulary, smoothing, z_loss)
            if projection.softcap is not None:
                gradient *= 1 - (logits / projection.softcap).square()  # d(cap · tanh(x / cap)) / dx
            if grad_bias is not None:
                grad_bias += gradient.sum(dim=0)
            gradient = gradient.to(features.dtype)
            if grad_features is not None:
                grad_features[chunk] = gradient @ weight
            if grad_weight is not None:
                grad_weight += gradient.T @ features[chunk]
        if grad_features is not None:
            grad_features = all_reduce(grad_features, projection.group)
        ctx.save_for_backward(grad_features, grad_weight, grad_bias)
        ctx.mark_non_differentiable(nats)
        return total, nats

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        above, _ = grad_outputs
        gradients = (None if kept is None else kept * above for kept in ctx.saved_tensors)
        return (*gradients, None, None)


class _Seen(NamedTuple):
    """Of each token (rows,): log Z over the whole vocabulary, the target's logit, the sum of all logits; and where in
    this device's part the target is, with whether it is there."""

    log_z: Tensor
    target: Tensor
    total: Tensor
    column: Tensor
    mine: Tensor


def _exchange(logits: Tensor, targets: Tensor, projection: DividedProjection, smoothing: float) -> _Seen:
    """From this device's `logits` (rows, part of the vocabulary) and `targets` (rows,) of the whole one."""
    column = targets - projection.first
    mine = (column >= 0) & (column < logits.shape[-1])
    column = column.where(mine, 0)
    highest = all_reduce(logits.amax(dim=-1), projection.group, dist.ReduceOp.MAX)
    exponentials = (logits - highest[:, None]).exp().sum(dim=-1)
    target = logits.gather(-1, column[:, None]).squeeze(-1) * mine
    sums = [exponentials, target, *([logits.sum(dim=-1)] if smoothing else [])]
    exponentials, target, *total = all_reduce(torch.stack(sums), projection.group)
    return _Seen(highest + exponentials.log(), target, total[0] if total else target, column, mine)


def _gradient(logits: Tensor, seen: _Seen, vocabulary: int, smoothing: float, z_loss: float) -> Tensor:
    """Of the loss by this device's logits: p (1 + 2 z log Z) - q."""
    gradient = (logits - seen.log_z[:, None]).exp_()
    if z_loss:
        gradient *= 1 + 2 * z_loss * seen.log_z[:, None]
    if smoothing:
        gradient -= smoothing / vocabulary
    return gradient.scatter_add_(-1, seen.column[:, None], (smoothing - 1) * seen.mine[:, None].to(gradient.dtype))
