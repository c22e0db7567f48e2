"""What the processes of a layout hold and send is what the plan says, byte for byte."""

from typing import Any

import layouts  # type: ignore[import-not-found]
import pytest

from lmworks.train.parallel.config import ParallelConfig
from ranks import on_ranks

EXACT: dict[int, list[dict[str, Any]]] = {
    2: [
        {"data": 2},
        {"data": 2, "zero": 1},
        {"data": 2, "zero": 3},
        {"tensor": 2, "sequence_parallel": True},
        {"context": 2},
        {"pipeline": 2, "chunks": 2},
    ],
    4: [
        {"data": 4, "zero": 2},
        {"data": 2, "zero": 3, "tensor": 2},
        {"data": 2, "zero": 1, "pipeline": 2},
        {"context": 2, "tensor": 2, "sequence_parallel": True},
        {"data": 4, "expert": 2, "zero": 3},
    ],
}


def _rows(settings: list[dict[str, Any]]) -> list[Any]:
    return [layouts.row(ParallelConfig(**each)) for each in settings]


@pytest.mark.parametrize("processes", EXACT)
def test_what_is_held_and_sent_is_what_is_planned(processes: int) -> None:
    for row in on_ranks(processes, _rows, EXACT[processes])[0]:
        assert row.loss_difference < 1e-5
        assert row.gradient_difference < 1e-5
        assert row.gradients[0] == row.gradients[1], row
        assert row.optimizer[0] == row.optimizer[1], row
        # Between steps ZeRO 2 holds a share, too.
        assert row.weights[0] == (row.weights[1] / processes if "zero 2" in row.layout else row.weights[1]), row
        if "expert" in row.layout:  # whose tokens are not as many for each
            assert row.sent[0] == pytest.approx(row.sent[1], rel=0.02)
        else:
            assert row.sent[0] == row.sent[1], row
