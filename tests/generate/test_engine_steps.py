"""submit and step: what is in flight, and what becomes of it when a request or a step fails."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from engine_cases import finish

from kit.tables import for_each
from lmworks.generate.draft_proposers import draft_model
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters, UnsupportedError
from lmworks.generate.request_state import RequestState
from lmworks.model.checkpoint import Checkpoint, assemble
from lmworks.model.initialisation import initialise
from lmworks.model.presets import llama
from lmworks.model.transformer import Transformer

_POISON = 200  # the token whose embedding is NaN
_LONG = SamplingParameters(max_tokens=20, ignore_eos=True)


@pytest.fixture(scope="module")
def poisoned(tiny_llama) -> Checkpoint:
    """A model that computes NaN wherever it has read the poison, and there alone (its output has other weights)."""
    config = llama(260, width=48, layers=3, heads=4, kv_heads=2, hidden=96, context_length=256, tied=False)
    weights = dict(initialise(Transformer(config), seed=5, std=0.2).state_dict())
    weights["embedding.tokens.weight"][_POISON] = float("nan")
    return assemble(config, weights, tiny_llama.tokenizer, source="poisoned llama")


def _clean(n: int) -> Request:
    """A request that never meets the poison."""
    return Request((1, 2, n), sampling=replace(_LONG, logit_bias={_POISON: -100.0}))


def test_submit_and_step_are_what_generate_does(tiny_llama) -> None:
    engine = Engine(tiny_llama, slots=2, weights="float32", context_length=100)
    requests = [Request((1, 2, 3 + n), sampling=replace(_LONG, max_tokens=5 + n)) for n in range(5)]
    expected = engine.generate(requests)
    assert (engine.batcher.idle, engine.running, len(engine.batcher.scheduler.waiting), engine.cache_usage) == (
        True,
        0,
        0,
        0.0,
    )
    engine.step()  # nothing to do
    lives = [engine.submit(request) for request in requests]
    assert (engine.batcher.idle, engine.running, len(engine.batcher.scheduler.waiting), engine.cache_usage) == (
        False,
        0,
        5,
        0.0,
    )
    engine.step()
    assert (engine.running, len(engine.batcher.scheduler.waiting)) == (2, 3)
    assert engine.cache_usage == pytest.approx(2 / engine.batcher.cache.pages), "two prompts of three: a page each"
    finish(engine)
    assert [live.completion(0).ids for live in lives] == [completion.ids for completion in expected]
    assert (engine.running, len(engine.batcher.scheduler.waiting), engine.cache_usage) == (0, 0, 0.0)
    with pytest.raises(ValueError, match=r"logit_bias holds token ids outside \[0, 260\)"):
        engine.submit(Request((1,), sampling=SamplingParameters(logit_bias={260: 1.0})))
    assert engine.batcher.idle


class _CountedRequest(RequestState):
    """Counts how often any attribute of any of them is read."""

    __slots__ = ()
    visits = 0

    def __getattribute__(self, name: str) -> object:
        _CountedRequest.visits += 1
        return super().__getattribute__(name)


def test_the_work_for_a_request_does_not_grow_with_how_many_wait(tiny_llama, monkeypatch) -> None:
    engine = Engine(tiny_llama, slots=2, weights="float32", context_length=100)
    prepare = engine.prepare

    def counted(request: Request) -> RequestState:
        live = prepare(request)
        live.__class__ = _CountedRequest
        return live

    monkeypatch.setattr(engine, "prepare", counted)
    visits = []
    for count in (10, 100):
        _CountedRequest.visits = 0
        engine.generate([Request((1, 2, n), sampling=_LONG, deadline=1000.0) for n in range(count)])
        visits.append(_CountedRequest.visits / count)
    assert visits[1] < 1.2 * visits[0]


class _CountedIds(list[int]):
    """Counts the values that are read of it."""

    read = 0

    def __iter__(self) -> Iterator[int]:
        self.read += len(self)
        return super().__iter__()

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        self.read += len(found) if isinstance(found, list) else 1
        return found


@for_each("speculation", [None, "lookup", "draft"])
def test_a_step_does_not_read_the_completion_anew(tiny_llama, speculation) -> None:
    proposer = draft_model(tiny_llama, weights="float32") if speculation == "draft" else speculation
    engine = Engine(tiny_llama, weights="float32", speculation=proposer)
    sampling = replace(_LONG, max_tokens=200, temperature=1.0, seed=1)
    expected = engine.generate([Request((1, 2, 3), sampling=sampling)])[0]
    live = engine.submit(Request((1, 2, 3), sampling=sampling))
    live.ids = counted = _CountedIds()
    finish(engine)
    assert live.completion(0).ids == expected.ids
    assert counted.read < 20 * 200, "20 a token, where a token has on average 100 before it"


def test_an_embedding_model_has_nothing_in_flight(tiny_bert) -> None:
    engine = Engine(tiny_bert)
    engine.step()
    assert (engine.running, engine.cache_usage) == (0, 0.0)
    with pytest.raises(UnsupportedError, match="no language model head"):
        engine.submit(Request((1,)))


@for_each("enters", ["by the prompt", "by decoding"])
def test_a_request_whose_logits_are_nan_fails_alone_and_leaves_nothing_behind(poisoned, enters: str) -> None:
    engine = Engine(poisoned, slots=3, weights="float32")
    neighbours = [_clean(n) for n in range(2)]
    expected = Engine(poisoned, slots=3, weights="float32").generate([*neighbours, _clean(7)])
    if enters == "by the prompt":
        broken = Request((_POISON,) * 40, sampling=_LONG)
    else:
        broken = Request((1, 2) * 20, sampling=replace(_LONG, logit_bias={_POISON: 100.0}))
    lives = [engine.submit(request) for request in (neighbours[0], broken, neighbours[1])]
    finish(engine)
    assert isinstance(lives[1].error, FloatingPointError) and lives[1].finish_reason is None
    assert [lives[0].completion(0).ids, lives[2].completion(0).ids] == [c.ids for c in expected[:2]]
    # whoever takes the broken request's slot next, and the two others
    again = engine.generate([_clean(7)] * 3)
    assert [completion.ids for completion in again] == [expected[2].ids] * 3


def test_generate_and_stream_raise_what_broke_their_request(poisoned) -> None:
    engine = Engine(poisoned, slots=3, weights="float32")
    beside = engine.stream(_clean(1))
    first = next(beside)
    with pytest.raises(FloatingPointError, match="not finite"):
        engine.generate([_clean(2), Request((_POISON,), sampling=_LONG)])
    with pytest.raises(FloatingPointError, match="not finite"):
        list(engine.stream(Request((_POISON,), sampling=_LONG)))
    assert engine.running == 1, "the stream beside them goes on"
    deltas = [first, *beside]
    assert deltas[-1].completion is not None
    assert deltas[-1].completion.ids == engine.generate([_clean(1)])[0].ids


@for_each("fails_at", [1, 2, 3, 4])
def test_a_step_that_raises_fails_those_that_run_and_the_engine_lives_on(tiny_llama, monkeypatch, fails_at) -> None:
    engine = Engine(tiny_llama, slots=2, weights="float32")
    requests = [Request((1, 2, 3 + n), sampling=_LONG) for n in range(4)]
    expected = [completion.ids for completion in engine.generate(requests)]
    forward, calls = engine.batcher.runner.forward, 0

    def failing(*arguments, **named):
        nonlocal calls
        calls += 1
        result = forward(*arguments, **named)
        if calls == fails_at:  # the first brings prompts; by now the cache is written
            raise MemoryError("no memory")
        return result

    monkeypatch.setattr(engine.batcher.runner, "forward", failing)
    lives = [engine.submit(request) for request in requests]
    with pytest.raises(MemoryError, match="no memory"):
        finish(engine)
    assert [str(live.error) for live in lives] == ["no memory", "no memory", "None", "None"]
    assert (engine.running, len(engine.batcher.scheduler.waiting)) == (0, 2), "those in line stay there"
    finish(engine)
    assert [live.completion(0).ids for live in lives[2:]] == expected[2:]
    assert [completion.ids for completion in engine.generate(requests)] == expected
