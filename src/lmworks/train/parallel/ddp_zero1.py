"""Data parallelism: gradients of the same weights from other tokens, summed (Li et al. 2020, section 3), and ZeRO's
first stage, where each replica keeps and updates a share of every weight (Rajbhandari et al. 2020, section 5.1).

The sum of a whole step is made once, after its last part, in float32 and in buckets: while one is under way, the next
is laid out. Sums, not means: each loss was divided by the count over all replicas already.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import TypeVar, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lmworks.train.parallel.collectives import all_gather, reduce_scatter

Item = TypeVar("Item")
BUCKET = 2**22  # values that travel together: 16 MiB in float32


def share(rows: int, devices: int, device: int) -> tuple[int, int]:
    """(first, count) of the rows of a weight that one of `devices` updates: equal shares, the last ones shorter."""
    size = -(-rows // devices)
    first = min(device * size, rows)
    return first, min(size, rows - first)


def agreed_names(
    gradients: Mapping[str, Tensor], names: Iterable[str], group: dist.ProcessGroup, device: torch.device
) -> list[str]:
    """Those of `names` of which any replica has a gradient: a batch may leave a weight out that others use."""
    names = list(names)
    has = torch.tensor([name in gradients for name in names], dtype=torch.int32, device=device)
    dist.all_reduce(has, dist.ReduceOp.MAX, group=group)
    return [name for name, present in zip(names, has.tolist(), strict=True) if present]


def sum_gradients(gradients: Sequence[Tensor], group: dist.ProcessGroup) -> None:
    """All-reduce: each gradient becomes the sum over the replicas, in place."""
    under_way: tuple[dist.Work, Tensor, list[Tensor]] | None = None
    for bucket in buckets(gradients):
        flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
        work = dist.all_reduce(flat, group=group, async_op=True)
        assert work is not None
        if under_way is not None:
            _take_back(*under_way)
        under_way = work, flat, bucket
    if under_way is not None:
        _take_back(*under_way)


def _take_back(work: dist.Work, flat: Tensor, bucket: list[Tensor]) -> None:
    work.wait()
    for gradient, summed in zip(bucket, flat.split([gradient.numel() for gradient in bucket]), strict=True):
        gradient.copy_(summed.view_as(gradient))


def sum_and_divide(gradients: Iterable[Tensor], group: dist.ProcessGroup) -> Iterator[Tensor]:
    """Reduce-scatter: of each gradient this device's rows of the sum over the replicas. `gradients` are taken a bucket
    at a time, so that the whole ones can go as the shares come."""
    devices, device = dist.get_world_size(group), dist.get_rank(group)
    for bucket in buckets(gradients):
        pieces = [_by_device(gradient, devices) for gradient in bucket]
        flat = torch.cat(pieces, dim=1)  # (devices, values)
        shard = reduce_scatter(flat.view(-1), group, dim=0)
        for gradient, values in zip(bucket, shard.split([piece.shape[1] for piece in pieces]), strict=True):
            shape = (share(len(gradient), devices, device)[1], *gradient.shape[1:])
            yield values[: prod(shape)].view(shape)


def gather_weights(weights: Sequence[Tensor], group: dist.ProcessGroup) -> None:
    """All-gather, in place: of each weight this device's rows are right, and become so on all devices."""
    devices, device = dist.get_world_size(group), dist.get_rank(group)
    for bucket in buckets(weights):
        pieces = [_by_device(weight, devices)[device] for weight in bucket]
        flat = all_gather(torch.cat(pieces), group, dim=0).view(devices, -1)
        for weight, values in zip(bucket, flat.split([len(piece) for piece in pieces], dim=1), strict=True):
            weight.copy_(values.reshape(-1)[: weight.numel()].view_as(weight))


def gather_rows(shard: Tensor, rows: int, group: dist.ProcessGroup) -> Tensor:
    """The whole of a weight of so many rows, from the shares of all devices."""
    size = -(-rows // dist.get_world_size(group))
    padded = F.pad(shard, (0, 0) * (shard.dim() - 1) + (0, size - len(shard)))
    return all_gather(padded, group, dim=0)[:rows]


def _by_device(tensor: Tensor, devices: int) -> Tensor:
    """(rows, ...) → (devices, values): the rows of each device, padded where there are fewer."""
    size = -(-len(tensor) // devices) * prod(tensor.shape[1:])
    return F.pad(tensor.reshape(-1), (0, devices * size - tensor.numel())).view(devices, size)


def buckets(
    items: Iterable[Item], tensor_of: Callable[[Item], Tensor] = lambda item: cast(Tensor, item)
) -> Iterator[list[Item]]:
    """Runs of tensors, or of items with one, of at least `BUCKET` values, the last run excepted."""
    bucket: list[Item] = []
    values = 0
    for item in items:
        bucket.append(item)
        values += tensor_of(item).numel()
        if values >= BUCKET:
            yield bucket
            bucket, values = [], 0
    if bucket:
        yield bucket
