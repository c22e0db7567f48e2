"""The processes in which parallel training is tested."""

import pytest
import torch
import torch.distributed as dist

from ranks import on_ranks


def _total(start: int) -> tuple[int, float]:
    value = torch.tensor([float(start + dist.get_rank())])
    dist.all_reduce(value)
    return dist.get_rank(), float(value)


def _raises_on_one() -> None:
    if dist.get_rank() == 1:
        raise RuntimeError("of rank one")
    dist.barrier()


def test_ranks_join_and_answer_in_their_order() -> None:
    assert on_ranks(4, _total, 10) == [(rank, 46.0) for rank in range(4)]


def test_a_rank_that_raises_is_named() -> None:
    with pytest.raises(AssertionError, match=r"rank 1: (?s:.*)of rank one"):
        on_ranks(2, _raises_on_one)
