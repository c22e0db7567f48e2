"""Mixing: an order that keeps each source at its share at all times, and runs that get longer."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lmworks.data.config import LARGEST, LoaderConfig, SourceConfig
from lmworks.data.mixture import DrawPlan, Mixture


@given(st.lists(st.integers(0, 400) | st.integers(0, 4), min_size=1, max_size=9).filter(any), st.data())
def test_every_prefix_of_the_run_keeps_the_shares_and_the_run_the_quotas(wanted, data):
    """By less than 1.7 sequences, and by less than one where there are up to three sources; each draw knows its source
    and index without those before."""
    mixture = Mixture(wanted)
    sources, index = mixture.draw(np.arange(mixture.total))
    drawn = np.cumsum(sources[:, None] == np.arange(len(wanted)), axis=0)  # (draws, sources)
    exact = np.arange(1, mixture.total + 1)[:, None] * (np.array(wanted) / mixture.total)
    assert np.abs(drawn - exact).max() < (1.7 if len(wanted) > 3 else 1 + 1e-9)
    assert drawn[-1].tolist() == wanted
    for source, quota in enumerate(wanted):
        assert index[sources == source].tolist() == list(range(quota))
    k = data.draw(st.integers(0, mixture.total - 1))
    assert [int(found[0]) for found in mixture.draw(np.array([k]))] == [sources[k], index[k]]
    assert mixture.drawn(k) == np.bincount(sources[:k], minlength=len(wanted)).tolist()


@given(st.lists(st.integers(1, LARGEST // 60), min_size=2, max_size=60), st.data())
def test_the_largest_runs(wanted, data):
    mixture = Mixture(wanted)
    k = data.draw(st.integers(0, mixture.total - 1))
    drawn, after = mixture.drawn(k), mixture.drawn(k + 1)
    source, index = (int(found[0]) for found in mixture.draw(np.array([k])))
    assert [b - a for a, b in zip(drawn, after, strict=True)] == [int(i == source) for i in range(len(wanted))]
    assert index == drawn[source]
    exact = [quota * k / mixture.total for quota in wanted]
    assert all(abs(count - share) < 1.7 for count, share in zip(drawn, exact, strict=True))
    assert mixture.drawn(mixture.total) == wanted
    with pytest.raises(ValueError, match="steps"):
        Mixture([LARGEST, 1])


def shown(plan: DrawPlan) -> list[list[tuple[int, int]]]:
    """(source, index) of every row of every step."""
    steps = (plan.draw(step, 0, plan.rows(step)) for step in range(plan.steps))
    return [list(zip(sources.tolist(), index.tolist(), strict=True)) for sources, index in steps]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=4), st.integers(1, 7), st.data())
def test_a_run_of_any_other_length_begins_as_it_was_planned(sizes, batch, data):
    epochs = data.draw(st.none() | st.integers(2, 60))
    sources = {f"source {number}": SourceConfig("folder", max_epochs=epochs) for number in range(len(sizes))}
    first = LoaderConfig(sources, batch=batch, steps=data.draw(st.none() | st.integers(1, 30)))
    assume(epochs is None or first.steps is None or epochs * sum(sizes) >= batch * first.steps)
    plan = DrawPlan(first, sizes)
    whole = shown(plan)
    for _ in range(3):
        config = LoaderConfig(sources, batch=batch, steps=data.draw(st.integers(1, 60)))
        try:
            plan = DrawPlan(config, sizes, plan.horizons)
        except ValueError:
            assert epochs is not None
            return
        found = shown(plan)
        assert len(found) == config.steps
        assert found[: len(whole)] == whole[: len(found)]
        whole = found if len(found) > len(whole) else whole
        rows = [row for step in found for row in step]
        assert plan.smallest == min(map(len, found))
        assert plan.quotas == tuple(np.bincount([source for source, _ in rows], minlength=len(sizes)).tolist())
        for source, quota in enumerate(plan.quotas):  # no sequence is passed over, none comes twice in an epoch
            assert [index for at, index in rows if at == source] == list(range(quota))
            assert epochs is None or quota <= epochs * sizes[source]
