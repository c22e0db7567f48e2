"""The plan of a run: any settings give one or are refused by name, and what was planned comes whatever follows."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lmworks.data.config import LoaderConfig, SourceConfig
from lmworks.data.mixture import DrawPlan

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(
        [0, 1, -1, 0.0, 1e-3, 5e-324, 1e308, math.nan, math.inf, -math.inf, 2**31, 2**63, 10**400, "1", "", [], {}]
    ),
)
SIZES = st.lists(st.integers(1, 2**26) | st.integers(1, 40), min_size=1, max_size=4)


def sources_of(count: int, **settings) -> dict[str, SourceConfig]:
    return {f"source {number}": SourceConfig("folder", **settings) for number in range(count)}


@given(st.sampled_from([f for f in LoaderConfig.__dataclass_fields__ if f != "mode"]), ODD)
def test_a_setting_of_the_loader_is_taken_or_refused_by_its_name(name, value):
    values = {"sources": sources_of(1), name: value}
    try:
        config = LoaderConfig(**values)
    except ValueError as error:
        assert name in str(error)
    else:
        assert type(getattr(config, name)) in (int, float, bool, type(None))
        DrawPlan(LoaderConfig(**values | {"steps": 1}), [7])


@given(st.sampled_from(["folder", "weight", "max_epochs"]), ODD)
def test_a_setting_of_a_source_is_taken_or_refused_by_its_name(name, value):
    values = {"folder": "folder", name: value}
    try:
        SourceConfig(**values)
    except ValueError as error:
        assert name in str(error)


@given(SIZES, st.floats(0.01, 1e9), st.floats(5e-324, 1e308) | st.just(0.29), st.integers(1, 2**20))
def test_every_temperature_and_cap_gives_quotas_or_says_that_the_caps_are_too_low(sizes, temperature, epochs, steps):
    sources = sources_of(len(sizes), max_epochs=epochs)
    config = LoaderConfig(sources, batch=8, steps=steps, temperature=temperature)
    exact = [math.floor(int(epochs) * size) for size in sizes]  # what whole epochs allow
    try:
        plan = DrawPlan(config, sizes)
    except ValueError as error:
        assert "raise max_epochs" in str(error)
        assert sum(exact) < 8 * steps
        return
    assert sum(plan.quotas) == 8 * steps
    assert all(quota <= size * (epochs + 1e-9) for quota, size in zip(plan.quotas, sizes, strict=True))


def test_a_cap_is_taken_as_it_is_written():
    sources = {"a": SourceConfig("folder", max_epochs=0.29), "b": SourceConfig("folder")}
    assert DrawPlan(LoaderConfig(sources, batch=10, steps=10), [100, 1]).quotas == (29, 71)


# ---------------------------------------------------------------------------------------------------------------------
# Horizons


def shown(plan: DrawPlan) -> list[list[tuple[int, int]]]:
    """(source, index) of every row of every step."""
    steps = (plan.draw(step, 0, plan.rows(step)) for step in range(plan.steps))
    return [list(zip(sources.tolist(), index.tolist(), strict=True)) for sources, index in steps]


@given(SIZES.map(lambda sizes: [size % 50 + 1 for size in sizes]), st.integers(1, 7), st.data())
def test_a_run_of_any_other_length_begins_as_it_was_planned(sizes, batch, data):
    steps = st.none() | st.integers(1, 30)
    epochs = data.draw(st.none() | st.integers(2, 60))
    first = LoaderConfig(sources_of(len(sizes), max_epochs=epochs), batch=batch, steps=data.draw(steps))
    assume(epochs is None or first.steps is None or epochs * sum(sizes) >= batch * first.steps)
    plan = DrawPlan(first, sizes)
    whole = shown(plan)
    for _ in range(3):
        config = LoaderConfig(first.sources, batch=batch, steps=data.draw(st.integers(1, 60)))
        try:
            plan = DrawPlan(config, sizes, plan.horizons)
        except ValueError as error:
            assert "cannot go on to" in str(error)
            assert epochs is not None
            return
        found = shown(plan)
        assert len(found) == config.steps
        assert found[: len(whole)] == whole[: len(found)]
        whole = found if len(found) > len(whole) else whole
        rows = [row for step in found for row in step]
        assert plan.quotas == tuple(np.bincount([source for source, _ in rows], minlength=len(sizes)).tolist())
        for source, quota in enumerate(plan.quotas):  # no sequence is passed over, none comes twice in an epoch
            assert [index for at, index in rows if at == source] == list(range(quota))
            assert epochs is None or quota <= epochs * sizes[source]


def test_an_extension_has_the_shares_of_the_run_and_leaves_the_caps_as_they_are():
    sources = {"a": SourceConfig("folder"), "b": SourceConfig("folder", max_epochs=1)}
    plan = DrawPlan(LoaderConfig(sources, batch=10, steps=12), [100, 100])
    assert plan.quotas == (60, 60)
    longer = DrawPlan(LoaderConfig(sources, batch=10, steps=30), [100, 100], plan.horizons)
    assert (longer.quotas, longer.horizons) == ((200, 100), (120, 300))
    short = DrawPlan(LoaderConfig(sources, batch=10, steps=6), [100, 100], plan.horizons)
    assert (short.quotas, short.horizons) == ((30, 30), (120,))  # which may be made longer again


def test_a_saved_run_of_other_steps_wants_to_be_told_how_many():
    one_epoch = LoaderConfig(sources_of(2), batch=10)
    horizons = DrawPlan(one_epoch, [14, 15]).horizons
    assert DrawPlan(one_epoch, [14, 15], horizons).steps == 3
    with pytest.raises(ValueError, match="planned for 4 steps: set steps"):
        DrawPlan(one_epoch, [14, 15], (40,))
