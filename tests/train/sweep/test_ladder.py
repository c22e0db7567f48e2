"""The plan of a sweep: budgets, balance and limits, from the target alone."""

import math
from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.config import ConfigError, from_mapping, to_mapping
from lmworks.model.model_costs import count_parameters
from lmworks.train.derived_settings import LEAST_STEPS
from lmworks.train.planning.scaling_laws import training_flops
from lmworks.train.sweep.config import SweepConfig
from lmworks.train.sweep.ladder import Ladder, factor_of, plan_ladder

PLENTY = 10**12
RATE = 3e10  # operations a second of a machine whose speed is known


def seconds(model, tokens, batch_tokens):
    return training_flops(count_parameters(model), tokens) / RATE * (1 + 1000 / batch_tokens)


def by_budget(ladder):
    groups = defaultdict(list)
    for rung in ladder.rungs:
        groups[rung.size + rung.span].append(rung)
    return groups


@given(st.floats(15.5, 17), st.integers(2, 6), st.integers(2, 5), st.floats(1.6, 4))
def test_the_operations_are_those_given_and_equal_along_a_budget(exponent, sizes, lengths, factor):
    if sizes * lengths < 7:
        return
    config = SweepConfig(flops=10**exponent, sizes=sizes, lengths=lengths, factor=factor, length=64)
    try:
        ladder = plan_ladder(config, 1000, PLENTY)
    except ValueError as error:
        assert "fewer than" in str(error)  # a wide ladder's shortest run has too few steps
        return
    assert ladder.flops == pytest.approx(10**exponent, rel=2e-3)
    assert len(ladder.rungs) == len({rung.name for rung in ladder.rungs}) == sizes * lengths
    means = []
    for _, group in sorted(by_budget(ladder).items()):
        assert max(rung.flops for rung in group) < 1.001 * min(rung.flops for rung in group)
        means.append(group[0].flops)
    assert [late / early for early, late in pairwise(means)] == pytest.approx(
        [factor] * (sizes + lengths - 2), rel=1e-2
    )
    assert [rung.flops for rung in ladder.rungs] == pytest.approx(sorted(rung.flops for rung in ladder.rungs), rel=1e-3)
    for rung in ladder.rungs:
        assert rung.derived.steps * rung.derived.batch * 64 == pytest.approx(rung.tokens, rel=1 / 150)
        assert rung.derived.steps >= LEAST_STEPS
        assert rung.parameters == count_parameters(rung.derived.model)


def test_the_middle_is_where_size_and_data_are_in_balance():
    """By the default law, whose ratio is 26 at 1e18 operations and rises by 1.12 for each hundredth of them."""
    ladder = plan_ladder(SweepConfig(flops=1e16, sizes=5, lengths=3, length=64), 1000, PLENTY)
    middle = next(rung for rung in ladder.rungs if (rung.size, rung.span) == (2, 1))
    assert 20 < middle.tokens / middle.parameters < 40


def test_minutes_are_what_the_runs_take_as_measured():
    ladder = plan_ladder(SweepConfig(minutes=30, length=128), 1000, PLENTY, seconds)
    assert ladder.seconds == pytest.approx(1800, rel=0.02)
    assert ladder.seconds == pytest.approx(sum(rung.seconds for rung in ladder.rungs))


def test_what_the_data_cannot_take_larger_models_do():
    config = SweepConfig(flops=1e15, length=64)
    free, limited = plan_ladder(config, 1000, PLENTY), plan_ladder(config, 1000, 2_000_000)
    assert max(rung.tokens for rung in limited.rungs) <= 2_000_000 < max(rung.tokens for rung in free.rungs)
    assert min(rung.parameters for rung in limited.rungs) > min(rung.parameters for rung in free.rungs)
    assert limited.flops > 0.7 * 1e15  # real models are not exactly of the sizes wanted, so some text is left over


def test_given_sizes_are_kept_and_too_little_text_is_told():
    config = SweepConfig(flops=1e15, smallest=200_000, largest=3_200_000, sizes=5, length=64)
    assert factor_of(config) == pytest.approx(2)
    ladder = plan_ladder(config, 1000, 3_000_000)
    found = sorted({rung.parameters for rung in ladder.rungs})
    assert [math.log2(n / 200_000) for n in found] == pytest.approx([0, 1, 2, 3, 4], abs=0.3)
    assert max(rung.tokens for rung in ladder.rungs) <= 3_000_000
    assert "add text" in {name: why for name, _, why in ladder.reasons}["lengths"]


def test_a_plan_is_kept_as_json():
    ladder = plan_ladder(SweepConfig(flops=1e15, length=64), 1000, PLENTY, seconds)
    assert from_mapping(Ladder, to_mapping(ladder)) == ladder


@for_each(
    ("given", "told"),
    [
        ({}, "set one budget"),
        ({"minutes": 1.0, "flops": 1e15}, "set one budget"),
        ({"flops": 1e15, "sizes": 2, "lengths": 3}, "7 runs at least"),
        ({"flops": 1e15, "smallest": 100_000}, "both smallest and largest"),
        ({"flops": 1e15, "smallest": 100_000, "largest": 100_001}, "well above smallest"),
        ({"flops": 1e15, "factor": 1.0}, "factor must lie"),
        ({"flops": -1.0}, "flops must be above 0"),
        ({"flops": 1e15, "length": 1}, "length must lie"),
    ],
)
def test_what_cannot_be_a_sweep_is_refused(given, told):
    with pytest.raises(ConfigError, match=told):
        from_mapping(SweepConfig, given)


def test_what_cannot_be_planned_is_refused():
    with pytest.raises(ValueError, match="steps, fewer than 200: give more"):
        plan_ladder(SweepConfig(flops=1e10, length=512), 1000, PLENTY)
    with pytest.raises(ValueError, match="two of the sizes are one model"):
        plan_ladder(SweepConfig(flops=1e15, smallest=150_000, largest=190_000, length=64), 1000, PLENTY)
    with pytest.raises(ValueError, match="minutes need a machine"):
        plan_ladder(SweepConfig(minutes=1), 1000, PLENTY)

    def busy(*_):
        raise ValueError("two blocks were no slower than one")

    with pytest.raises(ValueError, match="cannot be measured while"):
        plan_ladder(SweepConfig(minutes=1), 1000, PLENTY, busy)
    assert plan_ladder(SweepConfig(flops=1e15, length=64), 1000, PLENTY, busy).seconds is None
