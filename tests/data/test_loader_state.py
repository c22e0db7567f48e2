"""Saved positions: damaged ones are refused with what is wrong, and a run may get longer or shorter."""

import json
import multiprocessing
import pickle
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmworks.data.config import LoaderConfig, SourceConfig
from lmworks.data.loader import Loader
from token_cases import counted, write_dataset

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = tmp_path_factory.mktemp("sources")
    for number, name in enumerate(("web", "code")):
        write_dataset(root / name, counted([5, 40, 9, 23, 31, 8], first=1000 * number))
    sources = {name: SourceConfig(str(root / name)) for name in ("web", "code")}
    return LoaderConfig(sources, length=16, batch=4, steps=6)


@pytest.fixture(scope="module")
def state(config):
    with Loader(config) as loader:
        next(loader)
        return loader.state()


def ids(loader) -> list[list[list[int]]]:
    with loader:
        return [batch.ids.tolist() for batch in loader]


# ---------------------------------------------------------------------------------------------------------------------
# Damage


def test_what_is_wrong_with_a_state_is_said(config, state):
    stream = state["stream"]
    without = {name: value for name, value in stream.items() if name != "seed"}
    for damaged, message in (
        ({}, "state.step: missing"),
        ("{}", "state: expected a table"),
        (state | {"step": -1}, "state: step must not be negative, got -1"),
        (state | {"step": 7}, "step 7 of a run of 6"),
        (state | {"horizons": [24, 24]}, "horizons must ascend"),
        (state | {"horizons": [2**31]}, "horizons must ascend from 1 to at most 2147483647"),
        (state | {"stream": without}, "state.stream.seed: missing"),
        (state | {"stream": stream | {"sources": stream["sources"][:1]}}, r"sources\.code was None, is"),
    ):
        with pytest.raises(ValueError, match=message):
            Loader(config, state=damaged)


@given(st.data())
def test_whatever_a_state_holds_it_is_taken_or_refused(config, state, data):
    damaged = json.loads(json.dumps(state))
    place = data.draw(st.sampled_from([damaged, damaged["stream"], *damaged["stream"]["sources"]]))
    name = data.draw(st.sampled_from(sorted(place)) | st.text(max_size=3))
    place[name] = data.draw(JSON)
    if data.draw(st.booleans()):
        del place[name]
    try:
        Loader(config, state=damaged).close()
    except ValueError:
        return
    assert damaged["stream"] == state["stream"]
    assert 0 <= damaged["step"] <= 6


def test_a_refused_state_leaves_the_loader_where_it_was(config, state):
    with Loader(config) as loader:
        first, second = next(loader), next(loader)
        for damaged in (state | {"step": 7}, state | {"step": 2.5}):
            with pytest.raises(ValueError, match=r"state\.step: expected|the saved position"):
                loader.restore(damaged)
        assert loader.step == 2
        assert loader.restore(state) == 1
        assert torch.equal(next(loader).ids, second.ids)
        loader.seek(0)
        assert torch.equal(next(loader).ids, first.ids)


# ---------------------------------------------------------------------------------------------------------------------
# Longer and shorter runs


@pytest.mark.parametrize("world_size", [1, 3])
def test_a_run_that_is_extended_shows_what_it_would_have_shown_and_goes_on(config, state, world_size):
    planned = ids(Loader(config))
    longer = [Loader(replace(config, steps=9), rank, world_size, state) for rank in range(world_size)]
    states = [loader.state() for loader in longer]
    parts = [ids(loader) for loader in longer]
    found = [[row for rows in step for row in rows] for step in zip(*parts, strict=True)]
    assert len(found) == 8
    assert found[:5] == planned[1:]
    # What came after the extension is a stream as fixed as any: it is met again at each later moment.
    for step in (3, 7):
        later = states[0] | {"step": step}
        assert ids(Loader(replace(config, steps=9), state=later)) == found[step - 1 :]
    assert ids(Loader(replace(config, steps=7), state=states[0] | {"step": 4})) == found[3:6]


def test_a_run_that_is_shortened_stops_earlier(config, state):
    planned = ids(Loader(config))
    with Loader(replace(config, steps=3), state=state) as loader:
        assert [batch.ids.tolist() for batch in loader] == planned[1:3]
        state = loader.state()
    assert ids(Loader(config, state=state)) == planned[3:]  # and goes on after all
    with pytest.raises(ValueError, match="step 3 of a run of 2"):
        Loader(replace(config, steps=2), state=state)


# ---------------------------------------------------------------------------------------------------------------------
# Worlds, processes, the end


def test_no_rank_is_left_without_a_sequence(config):
    one_epoch = replace(config, batch=5, steps=None)
    with Loader(one_epoch) as loader:
        rows = [len(batch) for batch in loader]
        state = loader.state()
    *full, last = rows
    assert set(full) == {5}
    assert 0 < last < 5
    message = f"step {len(full)} holds the last {last} sequences, .* ranks of 5 .* set steps to at most {len(full)}"
    with pytest.raises(ValueError, match=message):
        Loader(one_epoch, world_size=5)
    shorter = replace(one_epoch, steps=len(full))
    for saved in (None, state | {"step": 1}):
        ranks = [Loader(shorter, rank, 5, saved) for rank in range(5)]
        assert [len(batch) for rank in ranks for batch in rank] == [1] * 5 * (len(full) - (saved is not None))
        for rank in ranks:
            rank.close()
    with pytest.raises(ValueError, match="a batch of 4 sequences leaves ranks of 5"):
        Loader(config, world_size=5)
    with pytest.raises(ValueError, match=r"rank 0\.5 is outside"):
        Loader(config, rank=0.5)


def give(loader, queue):
    queue.put([next(loader).ids.tolist() for _ in range(2)])
    loader.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_goes_on_where_the_loader_stands(config, method):
    """A fork copies no threads, so that what they were to make would be waited for without end."""
    planned = ids(Loader(config))
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    with Loader(config) as loader:
        next(loader)
        child = context.Process(target=give, args=(loader, queue))
        child.start()
        try:
            assert queue.get(timeout=60) == planned[1:3]
            child.join(60)
            assert child.exitcode == 0
        finally:
            child.kill()
        assert next(loader).ids.tolist() == planned[1]
        assert pickle.loads(pickle.dumps(loader)).step == 2
