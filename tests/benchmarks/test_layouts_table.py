"""What the processes of a layout hold and send is what the plan says, byte for byte."""

from typing import Any
from unittest import mock

import layouts  # type: ignore[import-not-found]
import pytest

from lmworks.train.parallel.config import ParallelConfig
from ranks import on_ranks
from slow_cases import slow

EXACT: dict[str, list[dict[str, Any]]] = {
    "2": [
        {"data": 2, "zero": 1},
        {"data": 2, "zero": 3},
        {"tensor": 2, "sequence_parallel": True},
        {"pipeline": 2, "chunks": 2},
        {"data": 2, "expert": 2, "zero": 3},
    ],
    "2, more": [{"data": 2}, {"context": 2}, {"data": 2, "zero": 2}],
    "4": [
        {"data": 4, "zero": 2},
        {"data": 2, "zero": 3, "tensor": 2},
        {"data": 2, "zero": 1, "pipeline": 2},
        {"context": 2, "tensor": 2, "sequence_parallel": True},
        {"data": 4, "expert": 2, "zero": 3},
    ],
}


def _rows(settings: list[dict[str, Any]]) -> list[Any]:
    return [layouts.row(ParallelConfig(**each)) for each in settings]


@pytest.mark.parametrize("name", slow("2", "2, more", "4"))
def test_what_is_held_and_sent_is_what_is_planned(name: str) -> None:
    processes = int(name[0])
    for row in on_ranks(processes, _rows, EXACT[name])[0]:
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


def _of_four_tokens(layouts_: list[tuple[int, int]]) -> list[tuple[float, float, list[int]]]:
    return [_step_of_four_tokens(zero, expert) for zero, expert in layouts_]


def _step_of_four_tokens(zero: int, expert: int) -> tuple[float, float, list[int]]:
    """How far the loss is from one process's, and a gradient at most; of rows so short that experts go unchosen."""
    with mock.patch.multiple(layouts, LENGTH=4, ROWS=4):
        parallel = ParallelConfig(data=2, zero=zero, expert=expert)  # type: ignore[arg-type]
        loss, gradients, _, _ = layouts.step(layouts.MIXTRAL, parallel)
        expected, of_one, _, _ = layouts.step(layouts.MIXTRAL, ParallelConfig(), alone=True)
    differences = [
        float((gradients[name] - whole).norm() / whole.norm()) for name, whole in of_one.items() if gradients
    ]
    return abs(loss - expected), max(differences, default=0.0), [len(gradients), len(of_one)]


@pytest.mark.parametrize(("zero", "expert"), [(3, 2), *slow((1, 1), (3, 1))])
def test_experts_that_one_process_does_not_choose(zero: int, expert: int) -> None:
    for loss, gradient, names in on_ranks(2, _of_four_tokens, [(zero, expert)])[0]:
        assert names[0] == names[1]
        assert max(loss, gradient) < 1e-5
