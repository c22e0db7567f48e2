"""What a run cannot do is refused where it is asked for, with the fix."""

from typing import get_args

import pytest

from kit.tables import for_each
from lmworks.train.config import EmbedderConfig, Family, PretrainConfig, TrainConfig
from lmworks.train.optimizer_config import Muon, Sgd
from lmworks.train.parallel.config import ParallelConfig
from lmworks.train.planning.model_shape import FAMILIES
from lmworks.train.sweep.config import SweepConfig


@for_each("degrees", [{"tensor": 2}, {"pipeline": 2}, {"context": 2}, {"data": 2, "zero": 3}])
def test_samples_that_no_process_could_continue(degrees):
    parallel = ParallelConfig(**degrees)
    assert not parallel.generates
    TrainConfig(parallel=parallel)
    with pytest.raises(ValueError, match="leave samples out, or divide by data alone"):
        TrainConfig(parallel=parallel, samples=("Once",))


@for_each("degrees", [{}, {"zero": 3}, {"data": 2}, {"data": 2, "zero": 1}])
def test_samples_of_a_process_that_has_the_whole_model(degrees):
    assert TrainConfig(parallel=ParallelConfig(**degrees), samples=("Once",)).parallel.generates


def test_samples_that_no_validation_would_write():
    with pytest.raises(ValueError, match="set validate to the steps between two of them"):
        TrainConfig(validate=None, samples=("Once",))


def test_an_embedding_model_continues_nothing():
    with pytest.raises(ValueError, match=r"leave train\.samples out"):
        EmbedderConfig(("pairs.jsonl",), train=TrainConfig(samples=("Once",)))


@for_each("optimizer", [Sgd, Muon])
@for_each("momentum", [1.0, -0.1, float("nan")])
def test_a_momentum_that_forgets_nothing(optimizer, momentum):
    with pytest.raises(ValueError, match="momentum must be 0 or more and below 1"):
        optimizer(momentum=momentum)


def test_a_look_ahead_by_no_momentum():
    with pytest.raises(ValueError, match="set momentum above 0"):
        Sgd(momentum=0, nesterov=True)
    Sgd(momentum=0)


def test_families_without_a_rule():
    assert set(get_args(Family)) == set(FAMILIES)
    with pytest.raises(ValueError, match=r"family must be one of llama, gpt2, .*, got 'x'"):
        PretrainConfig(tokens=1000, family="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="family must be one of"):
        SweepConfig(flops=1e12, family="x")  # type: ignore[arg-type]
