"""Schedules against their formulas at the points that define them."""

from math import cos, pi

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.train.optimizer_config import Cosine, InverseSqrt, Linear, WarmupStableDecay
from lmworks.train.schedules import multiplier

SCHEDULES = [Cosine(10, 0.1), Linear(10, 0.2), WarmupStableDecay(10, 0.25, 0.0), InverseSqrt(10)]


@for_each("schedule", SCHEDULES)
def test_the_warm_up_rises_in_equal_steps_to_one(schedule):
    assert [multiplier(schedule, step, 100) for step in range(10)] == pytest.approx([(n + 1) / 10 for n in range(10)])
    assert multiplier(schedule, 10, 100) == pytest.approx(1.0, abs=0.05)


def test_cosine():
    schedule = Cosine(0, 0.1)
    assert [multiplier(schedule, step, 100) for step in (0, 50, 100)] == pytest.approx([1.0, 0.55, 0.1])
    assert multiplier(schedule, 25, 100) == pytest.approx(0.1 + 0.9 * (1 + cos(pi / 4)) / 2)


def test_linear():
    assert [multiplier(Linear(20, 0.0), step, 100) for step in (20, 60, 90)] == pytest.approx([1.0, 0.5, 0.125])


@for_each(("shape", "half"), [("linear", 0.5), ("sqrt", 1 - 0.5**0.5)])
def test_warmup_stable_decay(shape, half):
    schedule = WarmupStableDecay(0, 0.2, 0.0, shape)
    assert [multiplier(schedule, step, 100) for step in (0, 79, 80, 90)] == pytest.approx([1.0, 1.0, 1.0, half])


def test_a_decay_begins_after_the_warm_up():
    """A warm-up of 40 of 50 steps reaches into a decay over the last 40: what is left, 10 steps, decays."""
    schedule = WarmupStableDecay(40, 0.8, 0.0)
    found = [multiplier(schedule, step, 50) for step in range(38, 51)]
    assert found == pytest.approx([39 / 40, 1.0, *(1 - n / 10 for n in range(11))])
    assert [multiplier(WarmupStableDecay(9, 1.0), step, 9) for step in (8, 9)] == [1.0, 1.0]


def test_inverse_sqrt_is_vaswanis():
    """lrate = d^-0.5 · min(step^-0.5, step · warmup^-1.5), in units of its peak, with their steps from 1."""
    for step in (1, 5, 10, 11, 40, 1000):
        peak = 10**-0.5
        theirs = min(step**-0.5, step * 10**-1.5) / peak
        assert multiplier(InverseSqrt(10), step - 1, 10**6) == pytest.approx(theirs)


@given(st.sampled_from(SCHEDULES), st.integers(1, 300), st.data())
def test_a_multiplier_lies_between_zero_and_one(schedule, steps, data):
    step = data.draw(st.integers(0, steps))
    assert 0 <= multiplier(schedule, step, steps) <= 1


@for_each("build", [lambda: Cosine(-1), lambda: Cosine(final=2), lambda: WarmupStableDecay(decay=1.5)])
def test_what_no_schedule_can_be_is_refused(build):
    with pytest.raises(ValueError, match=r"must (lie between|be 0 or more)"):
        build()
