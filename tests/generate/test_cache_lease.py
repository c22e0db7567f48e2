"""Scores, searches and requests that share a cache in which each alone has just room: all end, as if alone."""

from collections.abc import Generator
from typing import Any

import pytest
from engine_cases import Kind, assert_same, finish, in_turns, make_engine, prompt, tiny_llama, tiny_mistral

from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.generate.search_parameters import BeamParameters, ContrastiveParameters

Parts = Generator[None, None, Any]

_SMALL = {"slots": 1, "context_length": 128, "cache_tokens": 128, "speculation": None}
_CONTEXTS = [prompt(96, n) for n in range(4)]
_CONTINUATIONS = [prompt(20, 10 + n) for n in range(4)]
_LONG = SamplingParameters(max_tokens=24, ignore_eos=True)


@pytest.fixture(params=["everything is seen", "windows"])
def make(request, kind: Kind):
    checkpoint = tiny_llama() if request.param == "everything is seen" else tiny_mistral()
    return lambda: make_engine(kind, checkpoint, **_SMALL)


def _scores(engine: Engine, number: int) -> Parts:
    return engine.score_in_parts([_CONTEXTS[number]] * 2, [_CONTINUATIONS[number], _CONTINUATIONS[number][::-1]])


def _beams(engine: Engine) -> Parts:
    return engine.search_in_parts(Request(_CONTEXTS[3], sampling=_LONG), BeamParameters(2, 2))


def test_scores_that_have_no_room_beside_each_other_take_turns(make) -> None:
    alone = [in_turns([_scores(make(), number)])[0] for number in range(3)]
    engine = make()
    assert in_turns([_scores(engine, number) for number in range(3)]) == alone
    assert engine.cache_usage == 0


def test_scores_a_search_and_a_request_take_turns(make, kind: Kind) -> None:
    request = Request(prompt(90, 7), sampling=_LONG)
    alone = in_turns([_scores(make(), 0)])[0], in_turns([_beams(make())])[0], make().generate([request])[0]
    engine = make()
    live = engine.submit(request)
    found = in_turns([_scores(engine, 0), _beams(engine)], engine.step)
    finish(engine)
    assert found[0] == alone[0]
    assert [one.ids for one in found[1]] == [one.ids for one in alone[1]]
    assert_same(live.completion(0), alone[2], kind)
    assert engine.cache_usage == 0


def test_a_call_that_blocks_does_not_wait_for_what_pauses(make) -> None:
    engine = make()
    expected = engine.score([_CONTEXTS[1]], [_CONTINUATIONS[1]])
    paused = _scores(engine, 0)
    next(paused)
    assert engine.score([_CONTEXTS[1]], [_CONTINUATIONS[1]]) == expected
    assert in_turns([paused]) == in_turns([_scores(make(), 0)])


def test_what_is_moved_out_keeps_its_shared_pages_shared(kind: Kind) -> None:
    """Four beams have the nine pages that there are: five full ones of the prompt, and an end for each."""
    engine, other = (make_engine(kind, tiny_llama(), **_SMALL) for _ in range(2))
    request = Request(prompt(90, 3), sampling=SamplingParameters(max_tokens=6, ignore_eos=True))
    expected = [one.ids for one in other.beam_search(request, BeamParameters(4, 4))]
    beams = engine.search_in_parts(request, BeamParameters(4, 4))
    for _ in range(4):
        next(beams)
    assert engine.cache_usage == 1
    engine.score([_CONTEXTS[1]], [_CONTINUATIONS[1]])
    assert engine.cache_usage == 0, "all of it is out"
    assert [one.ids for one in in_turns([beams])[0]] == expected


def test_closing_what_was_moved_out_gives_nothing_back_twice(make) -> None:
    engine = make()
    paused = _scores(engine, 0)
    next(paused)
    engine.score([_CONTEXTS[1]], [_CONTINUATIONS[1]])
    paused.close()
    assert engine.cache_usage == 0
    assert in_turns([_scores(engine, 2)]) == in_turns([_scores(make(), 2)])


# ---------------------------------------------------------------------------------------------------------------------
# Searches count as running


@pytest.mark.parametrize("how", ["beams", "contrast"])
def test_a_search_counts_as_running_from_its_first_part_to_its_end(how: str) -> None:
    engine = make_engine("modules", tiny_llama(), slots=2)
    request = Request(prompt(20, 1), sampling=_LONG)
    if how == "beams":
        parts: Parts = engine.search_in_parts(request, BeamParameters(2))
    else:
        parts = engine.search_in_parts(request, ContrastiveParameters())
    assert engine.running == 0
    next(parts)
    live = engine.submit(request)
    engine.step()
    assert (engine.running, engine.waiting) == (2, 0)
    next(parts)
    engine.cancel(live.id)
    assert engine.running == 1
    in_turns([parts])
    assert engine.running == 0
    parts = engine.search_in_parts(request, BeamParameters(2))
    next(parts)
    parts.close()
    assert engine.running == 0
    scores = engine.score_in_parts([[1, 2]], [[3, 4]])
    next(scores)
    assert engine.running == 0, "scores are neither requests nor searches"
