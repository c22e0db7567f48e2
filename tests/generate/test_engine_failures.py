"""One request fails: its neighbours notice nothing, and what they have computed is found again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from engine_cases import Kind, assert_same, finish, make_engine, prompt

from kit.tables import for_each
from lmworks.generate.constraint import Choice
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import BeamParameters, Completion, Request, SamplingParameters
from lmworks.generate.request_state import RequestState
from lmworks.model.checkpoint import Checkpoint

_LONG = SamplingParameters(max_tokens=12, ignore_eos=True)
_NEIGHBOURS = [Request(prompt(20 + n, n), sampling=_LONG, id=f"neighbour {n}") for n in range(2)]
_CONSTRAINED = Request(
    prompt(30, 9), sampling=replace(_LONG, constraint=Choice(("one of the two", "one or the other"))), id="broken"
)


@pytest.fixture(scope="module")
def expected(kind: Kind, checkpoint: Checkpoint) -> list[Completion]:
    return make_engine(kind, checkpoint, speculation=None).generate(_NEIGHBOURS)


def _in_company(engine: Engine, broken: Request) -> tuple[list[RequestState], RequestState]:
    lives = [engine.submit(request) for request in (_NEIGHBOURS[0], broken, _NEIGHBOURS[1])]
    return [lives[0], lives[2]], lives[1]


@dataclass
class _Proposer:
    """Guesses the same tokens for one request, or raises, and guesses nothing for the others."""

    guesses: list[int] | Exception
    seconds: float = 0.0

    def propose(self, requests: Sequence[RequestState], most: Sequence[int]) -> list[list[int]]:
        if isinstance(self.guesses, Exception):
            raise self.guesses
        return [self.guesses if request.id == "broken" else [] for request in requests]

    def forget(self, request: RequestState) -> None: ...


def test_a_proposer_that_fails_is_not_asked_again(kind: Kind, checkpoint, expected, caplog) -> None:
    engine = make_engine(kind, checkpoint, slots=3, speculation=_Proposer(RuntimeError("cannot guess")))
    for completion, plain in zip(engine.generate(_NEIGHBOURS), expected, strict=True):
        assert_same(completion, plain, kind)
    assert engine.batcher.speculator is None and "speculation is off" in caplog.text and "cannot guess" in caplog.text


def test_more_guesses_than_were_asked_for_are_cut(kind: Kind, checkpoint, expected) -> None:
    engine = make_engine(kind, checkpoint, slots=3, speculation=_Proposer([5] * 300))
    _, other = _in_company(engine, replace(_NEIGHBOURS[0], id="broken"))
    finish(engine)
    assert_same(other.completion(0), expected[0], kind)


@for_each("method", ["mask", "advance", "proposal", "masks"])
def test_a_constraint_that_raises_fails_its_request_alone(
    kind: Kind, checkpoint, expected, method, monkeypatch
) -> None:
    engine = make_engine(kind, checkpoint, slots=3, speculation="lookup")
    neighbours, broken = _in_company(engine, _CONSTRAINED)
    engine.step()

    def raising(*_) -> None:
        raise RuntimeError("a defect of the matcher")

    matcher = type(broken.constraint)
    monkeypatch.setattr(matcher, method, raising)
    finish(engine)
    assert str(broken.error) == "a defect of the matcher"
    for live, completion in zip(neighbours, expected, strict=True):
        assert_same(live.completion(0), completion, kind)
    assert engine.cache_usage == 0


# ---------------------------------------------------------------------------------------------------------------------
# What the cache knows afterwards


def _known(engine: Engine, ids: Sequence[int]) -> int:
    """Tokens of a text that the cache finds."""
    sequence = engine.batcher.open(ids, "")
    length = sequence.length
    engine.batcher.cache.close(sequence)
    return length


def test_who_fails_by_a_constraint_leaves_the_cache_as_it_is(checkpoint, monkeypatch) -> None:
    engine = make_engine("fused", checkpoint, prefill_tokens=16)
    engine.generate(_NEIGHBOURS)
    broken = engine.submit(_CONSTRAINED)
    monkeypatch.setattr(type(broken.constraint), "mask", lambda _: 1 / 0)
    finish(engine)
    assert isinstance(broken.error, ZeroDivisionError)
    assert [_known(engine, request.prompt_ids) for request in _NEIGHBOURS] == [16, 16]
    assert _known(engine, prompt(30, 9)) == 16, "what the model has computed of its prompt is no worse than before"


def _spoil(engine: Engine, monkeypatch: pytest.MonkeyPatch, calls: int = 1) -> None:
    """The logits of the next forwards are NaN, however the runner makes them."""
    runner, forward, made = engine.batcher.runner, engine.batcher.runner.forward, []

    def spoilt(*arguments, **named):
        rows, states = forward(*arguments, **named)
        made.append(1)
        if len(made) > calls:
            return rows, states
        nan = torch.full_like(rows.logits, torch.nan)
        return rows._replace(logits=nan, log_normaliser=torch.full_like(rows.log_normaliser, torch.nan)), states

    monkeypatch.setattr(runner, "forward", spoilt)


@for_each("how", ["a request", "scores", "a search"])
def test_numbers_that_are_none_cost_the_cache_their_own_pages_alone(checkpoint, monkeypatch, how: str) -> None:
    engine = make_engine("fused", checkpoint, prefill_tokens=32)
    text = prompt(70, 5)
    engine.generate(_NEIGHBOURS)
    before = _known(engine, _NEIGHBOURS[0].prompt_ids)
    assert before == 16 and _known(engine, text) == 0
    _spoil(engine, monkeypatch, calls=3)
    if how == "a request":
        live = engine.submit(Request(text, sampling=_LONG))
        finish(engine)
        assert isinstance(live.error, FloatingPointError)
    else:
        with pytest.raises(FloatingPointError):
            if how == "scores":
                engine.score([text], [[1, 2]])
            else:
                engine.search(Request(text, sampling=_LONG), BeamParameters(2))
    assert [_known(engine, request.prompt_ids) for request in _NEIGHBOURS] == [16, 16]
    assert _known(engine, text) == 0, "its chunks before may be as bad"
    assert engine.cache_usage == 0


def test_a_search_that_finds_nothing_costs_the_cache_nothing(checkpoint) -> None:
    engine = make_engine("fused", checkpoint)
    nothing = Request(prompt(40, 5), sampling=replace(_LONG, banned_tokens=tuple(range(260))))
    with pytest.raises(ValueError, match="no token is allowed"):
        engine.search(nothing, BeamParameters(2))
    assert _known(engine, prompt(40, 5)) == 32


@for_each("how", ["a step", "scores"])
def test_a_forward_that_raises_leaves_nothing_that_is_trusted(checkpoint, monkeypatch, how: str) -> None:
    engine = make_engine("fused", checkpoint)
    engine.generate(_NEIGHBOURS)

    def raising(*_) -> None:
        raise MemoryError("no memory")

    monkeypatch.setattr(engine.batcher.runner, "forward", raising)
    with pytest.raises(MemoryError):
        if how == "scores":
            engine.score([[1, 2]], [[3]])
        else:
            engine.generate([Request((1, 2))])
    assert [_known(engine, request.prompt_ids) for request in _NEIGHBOURS] == [0, 0]
