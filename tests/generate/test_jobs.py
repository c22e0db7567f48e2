"""Scores, searches and requests that share a cache in which each alone has just room: all end, as if alone."""

from typing import Any

import pytest
from engine_cases import Kind, assert_same, finish, make_engine, prompt, tiny_llama, tiny_mistral

from kit.tables import for_each
from lmworks.generate.engine import Engine
from lmworks.generate.job import Job
from lmworks.generate.protocol import BeamParameters, ContrastiveParameters, Request, SamplingParameters

_SMALL = {"slots": 1, "context_length": 128, "cache_tokens": 128, "speculation": None}
_CONTEXTS = [prompt(96, n) for n in range(4)]
_CONTINUATIONS = [prompt(20, 10 + n) for n in range(4)]
_LONG = SamplingParameters(max_tokens=24, ignore_eos=True)


@pytest.fixture(params=["everything is seen", "windows"])
def make(request, kind: Kind):
    checkpoint = tiny_llama() if request.param == "everything is seen" else tiny_mistral()
    return lambda: make_engine(kind, checkpoint, **_SMALL)


def _scores(engine: Engine, number: int) -> Job:
    return engine.submit_score([_CONTEXTS[number]] * 2, [_CONTINUATIONS[number], _CONTINUATIONS[number][::-1]])


def _beams(engine: Engine) -> Job:
    return engine.enqueue_search(engine.prepare(Request(_CONTEXTS[3], sampling=_LONG)), BeamParameters(2, 2))


def _finished(engine: Engine, *jobs: Job) -> list[Any]:
    finish(engine)
    return [job.future.result(0) for job in jobs]


def test_scores_that_have_no_room_beside_each_other_take_turns(make) -> None:
    alone = [_finished(engine, _scores(engine, number))[0] for number, engine in enumerate([make(), make(), make()])]
    engine = make()
    assert _finished(engine, *(_scores(engine, number) for number in range(3))) == alone
    assert engine.cache_usage == 0


def test_scores_a_search_and_a_request_take_turns(make, kind: Kind) -> None:
    request = Request(prompt(90, 7), sampling=_LONG)
    others = make(), make()
    (scores,), (beams,) = _finished(others[0], _scores(others[0], 0)), _finished(others[1], _beams(others[1]))
    (expected,) = make().generate([request])
    engine = make()
    live = engine.submit(request)
    results = _finished(engine, _scores(engine, 0), _beams(engine))
    assert results[0] == scores
    assert [beam.ids for beam in results[1]] == [beam.ids for beam in beams]
    assert_same(live.completion(0), expected, kind)
    assert engine.cache_usage == 0


def test_a_call_that_blocks_runs_what_was_queued_as_well(make) -> None:
    engine, other = make(), make()
    expected = engine.score([_CONTEXTS[1]], [_CONTINUATIONS[1]])
    queued = _scores(engine, 0)
    assert engine.score([_CONTEXTS[1]], [_CONTINUATIONS[1]]) == expected
    assert _finished(engine, queued) == _finished(other, _scores(other, 0))


def test_what_is_moved_out_keeps_its_shared_pages_shared(kind: Kind) -> None:
    """Four beams have the nine pages that there are: five full ones of the prompt, and an end for each."""
    engine, other = (make_engine(kind, tiny_llama(), **_SMALL) for _ in range(2))
    request = Request(prompt(90, 3), sampling=SamplingParameters(max_tokens=6, ignore_eos=True))
    expected = [beam.ids for beam in other.search(request, BeamParameters(4, 4))]
    beams = engine.enqueue_search(engine.prepare(request), BeamParameters(4, 4))
    for _ in range(4):
        engine.step()
    assert engine.cache_usage == 1
    engine.batcher.jobs[0].move_out()
    assert engine.cache_usage == 0, "all of it is out"
    assert [beam.ids for beam in _finished(engine, beams)[0]] == expected


@for_each("steps", [0, 1, 2])
def test_ending_what_was_moved_out_gives_nothing_back_twice(make, steps: int) -> None:
    engine, other = make(), make()
    job = _scores(engine, 0)
    for _ in range(steps):
        engine.step()
    job.move_out()
    engine.abort_jobs(RuntimeError("no more of it"))
    with pytest.raises(RuntimeError, match="no more of it"):
        job.future.result(0)
    assert engine.cache_usage == 0 and engine.batcher.idle
    assert _finished(engine, _scores(engine, 2)) == _finished(other, _scores(other, 2))


@for_each("how", ["beams", "contrast", "scores"])
def test_a_job_counts_as_running_until_its_end(how: str) -> None:
    engine = make_engine("modules", tiny_llama(), slots=2)
    request = Request(prompt(20, 1), sampling=_LONG)
    state = engine.checkpoint.model.state_dict()
    if how == "scores":
        job: Job = engine.submit_score([_CONTEXTS[0]] * 2, _CONTINUATIONS[:2])
    else:
        parameters = BeamParameters(2) if how == "beams" else ContrastiveParameters()
        job = engine.enqueue_search(engine.prepare(request), parameters)
    assert (engine.running, engine.batcher.idle) == (1, False)
    live = engine.submit(request)
    engine.step()
    assert (engine.running, len(engine.batcher.scheduler.waiting)) == (2, 0)
    with pytest.raises(RuntimeError, match="scores or searches are in flight"):
        engine.load_weights(state, 1)
    engine.cancel(live.id)
    assert engine.running == 1
    _finished(engine, job)
    assert (engine.running, engine.batcher.idle) == (0, True)
