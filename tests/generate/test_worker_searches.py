"""Searches on a worker: part by part between the steps of others."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from listeners import Listener

from lmworks.generate.best_of_n import best_of
from lmworks.generate.engine import Engine
from lmworks.generate.engine_worker import EngineWorker
from lmworks.generate.protocol import BeamParameters, ContrastiveParameters, Delta, Request, SamplingParameters

_REQUEST = Request((1, 2, 3), sampling=SamplingParameters(max_tokens=40, banned_tokens=(258,)))
_BEAMS = BeamParameters(4, 4)


@pytest.fixture
def engine(tiny_llama) -> Engine:
    return Engine(tiny_llama, slots=2, weights="float32", speculation=None, lowered=False)


def _posted(worker: EngineWorker, future: Future) -> Future:
    """The search, once it waits for its first turn."""
    while not worker._inbox:
        time.sleep(0.001)
    return future


def test_requests_go_on_while_beams_are_searched(worker, gate, engine, tiny_llama) -> None:
    alone = Engine(tiny_llama, weights="float32", lowered=False)
    expected = alone.search(_REQUEST, _BEAMS), alone.search(_REQUEST, ContrastiveParameters())
    with ThreadPoolExecutor(2) as pool:
        beams = _posted(worker, pool.submit(worker.search, _REQUEST, _BEAMS))
        contrast = pool.submit(worker.search, _REQUEST, ContrastiveParameters())
        while len(worker._inbox) < 2:
            time.sleep(0.001)
        searching: list[bool] = []
        states: set[tuple[int, int]] = set()
        beside = Listener()

        def tell(answer: Delta | Exception) -> None:
            searching.append(not beams.done() and not contrast.done())
            states.add((worker.running, worker.waiting))
            beside(answer)

        worker.submit(Request((1, 2), sampling=SamplingParameters(max_tokens=4, ignore_eos=True)), tell)
        assert (worker.running, worker.waiting) == (1, 1)
        gate.opened.set()
        assert beside.completion().completion_tokens == 4
        assert searching == [True] * 4
        assert [found.ids for found in beams.result(60)] == [found.ids for found in expected[0]]
        assert contrast.result(60)[0].ids == expected[1][0].ids
        assert states == {(4, 0), (3, 0)}, "two requests and two searches; after its last step, one request"
        assert worker.running <= 1, "no search any more"
    assert gate.completion().completion_tokens == 30
    assert engine.batcher.cache.used == 0


def test_best_of_n_counts_as_the_requests_that_it_is(worker, engine) -> None:
    states: set[tuple[int, int]] = set()
    step = engine.step

    def observed() -> None:
        states.add((worker.running, worker.waiting))
        step()

    engine.step = observed
    request = Request((1, 2, 3), sampling=SamplingParameters(max_tokens=8, temperature=1.0, seed=1, ignore_eos=True))
    assert len(best_of(worker, request, 2)) == 2
    assert (2, 0) in states and max(sum(state) for state in states) == 2
    assert (worker.running, worker.waiting) == (0, 0)


def test_the_model_does_not_change_under_a_search(worker, gate, tiny_llama) -> None:
    state = dict(tiny_llama.model.state_dict())
    with ThreadPoolExecutor(3) as pool:
        beams = _posted(worker, pool.submit(worker.search, _REQUEST, _BEAMS))
        changes = [
            pool.submit(worker.call, Engine.load_weights, state, 3),
            pool.submit(worker.call, Engine.unload_adapter, "none"),
        ]
        while len(worker._inbox) < 3:
            time.sleep(0.001)
        gate.opened.set()
        for change in changes:
            with pytest.raises(RuntimeError, match="scores or searches are in flight"):
                change.result(60)
        assert [found.policy_version for found in beams.result(60)] == [0] * 4
    assert gate.completion().completion_tokens == 30
    worker.call(Engine.load_weights, state, 3)
    assert worker.search(_REQUEST, _BEAMS)[0].policy_version == 3


def test_close_cuts_a_search_off_and_gives_its_pages_back(engine, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, steps, closing = EngineWorker(engine), [0], threading.Event()
    step = engine.step

    def counted() -> None:
        steps[0] += 1
        if steps[0] == 5:
            assert engine.batcher.cache.used > 0
            closing.set()
            while not worker._closed:
                time.sleep(0.001)
        step()

    monkeypatch.setattr(engine, "step", counted)
    with ThreadPoolExecutor(1) as pool:
        beams = pool.submit(worker.search, _REQUEST, _BEAMS)
        assert closing.wait(60)
        worker.close()
        with pytest.raises(RuntimeError, match="closed before the work"):
            beams.result(60)
    assert engine.batcher.cache.used == 0
    with pytest.raises(RuntimeError, match="worker is closed"):
        worker.search(_REQUEST, _BEAMS)


def test_what_is_wrong_is_said_where_it_was_asked(worker) -> None:
    with pytest.raises(ValueError, match="context_length"):
        worker.search(Request((1,) * 256), _BEAMS)
    with pytest.raises(ValueError, match="temperature"):
        worker.search(Request((1,), sampling=SamplingParameters(temperature=1.0)), ContrastiveParameters())
