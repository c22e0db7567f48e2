"""The vocabulary divided among devices (Shoeybi et al. 2019, section 3): its rows of the embedding, its columns of the
logits, and their softmax."""

from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.distributed import ProcessGroup

from lmworks.model.heads import VocabularyProjection
from lmworks.train.parallel.collectives import add, all_reduce, enter, join


class VocabularyEmbedding:
    """Methods of an `nn.Embedding` whose `weight` holds the rows from `first` on; other devices have the others."""

    first: int
    tensor_group: ProcessGroup
    weight: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        """(…) int64 → (…, width), whole on each device."""
        rows = ids - self.first
        in_shard = (rows >= 0) & (rows < len(self.weight))
        vectors = F.embedding(rows.where(in_shard, 0), self.weight) * in_shard[..., None]  # (…, width)
        return add(vectors, self.tensor_group)


class SoftmaxStatistics(NamedTuple):
    """Numbers of rows of logits and their targets, (rows,) each.

    log_z, nats  log Z, and -log p of the target; `means` the mean logit, where it is asked for
    column       of the target's logit among those that this device has
    present      1 where it is there, 0 where another device has it
    vocabulary   the number of all logits of a row
    """

    log_z: Tensor
    nats: Tensor
    means: Tensor
    column: Tensor
    present: Tensor
    vocabulary: int


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

    def softmax_statistics(self, logits: Tensor, targets: Tensor, mean: bool) -> SoftmaxStatistics:
        """The statistics over the whole vocabulary of capped `logits` (rows, this device's part) and `targets` (rows,)
        of the whole: the same on all devices, but for the place of the target.

        Of a row's logits only the maximum, the sum of exponentials, the target's and, for the `mean`, the sum are
        exchanged.
        """
        column = targets - self.first
        present = (column >= 0) & (column < logits.shape[-1])
        column = column.where(present, 0)
        highest = all_reduce(logits.amax(dim=-1), self.group, dist.ReduceOp.MAX)
        exponentials = (logits - highest[:, None]).exp().sum(dim=-1)
        target = logits.gather(-1, column[:, None]).squeeze(-1) * present
        sums = torch.stack([exponentials, target, *([logits.sum(dim=-1)] if mean else [])])
        exponentials, target, *total = all_reduce(sums, self.group)
        log_z = highest + exponentials.log()
        means = total[0] / self.vocabulary if mean else target
        return SoftmaxStatistics(log_z, log_z - target, means, column, present.to(logits.dtype), self.vocabulary)


class DividedHead:
    """Methods of a head whose last projection, and its bias, are divided."""

    vocabulary: int
    tensor_group: ProcessGroup

    def projection_to_vocabulary(self, tokens: Tensor) -> DividedProjection:
        whole = super().projection_to_vocabulary(tokens)  # type: ignore[misc]
        return DividedProjection(*whole, vocabulary=self.vocabulary, group=self.tensor_group)
