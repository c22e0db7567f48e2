"""Requests that end before their time, go before others, or fail: nothing of them stays behind."""

import time
from dataclasses import replace

import pytest
from engine_cases import Kind, assert_same, finish, make_engine, prompt, tiny_llama, tiny_mistral

from kit.tables import for_each
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.model.checkpoint import Checkpoint, assemble
from slow_cases import slow

_LONG = SamplingParameters(max_tokens=20, ignore_eos=True)
_POISON = 200  # the token whose embedding is NaN


@pytest.mark.parametrize("pages", ["plenty", "few"])
@pytest.mark.parametrize(("every", "least"), [(9, 3), *slow((3, 6))])
def test_cancelling_at_any_moment_frees_all_and_disturbs_nobody(
    kind: Kind, checkpoint: Checkpoint, pages: str, every: int, least: int
) -> None:
    """In line, in the middle of its prompt, while it decodes, while it is preempted."""
    options = {"slots": 3, "context_length": 128, "prefill_tokens": 25}
    requests = [Request(prompt(70, n), sampling=replace(_LONG, max_tokens=20 + 4 * n), id=str(n)) for n in range(4)]
    expected = {c.id: c for c in make_engine(kind, checkpoint, **options).generate(requests)}
    engine = make_engine(kind, checkpoint, **options, cache_tokens=128 if pages == "few" else None)
    moments = 0
    for moment in range(0, 200, every):
        lives = {request.id: engine.submit(request) for request in requests}
        for _ in range(moment):
            engine.step()
        victim = lives[str(moment % 4)]
        cut = not victim.done
        if cut:
            moments += 1
            assert engine.cancel(victim.id)
            assert victim.finish_reason == "cancelled" and victim.sequence is None
            assert victim.completion(0).ids == expected[victim.id].ids[: len(victim.ids)]  # type: ignore[index]
        finish(engine)
        assert engine.cache_usage == 0
        for live in lives.values():
            if live is not victim or not cut:
                assert_same(live.completion(0), expected[live.id], kind)
        if moment > 30 and not cut:
            break
    assert moments > least


def test_a_deadline_ends_a_request_wherever_it_is(checkpoint: Checkpoint, kind: Kind, monkeypatch) -> None:
    engine = make_engine(kind, checkpoint, slots=1)
    whole = engine.generate([Request((1, 2, 3), sampling=_LONG)])[0]
    running = engine.submit(Request((1, 2, 3), sampling=_LONG, deadline=100.0))
    in_line = engine.submit(Request((4, 5, 6), sampling=_LONG, deadline=100.0))
    patient = engine.submit(Request((1, 2, 3), sampling=_LONG, deadline=1000.0))
    for _ in range(4):
        engine.step()
    clock = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + 101)
    finish(engine)
    assert (running.finish_reason, in_line.finish_reason, patient.finish_reason) == ("deadline", "deadline", "length")
    cut = running.completion(0).ids
    assert cut and 4 <= len(cut) < 20 and cut == whole.ids[: len(cut)]  # type: ignore[index]
    assert in_line.completion(0).ids == () and in_line.completion(0).timings.queued is None
    assert patient.completion(0).ids == whole.ids
    assert engine.cache_usage == 0


def test_a_smaller_priority_overtakes_and_whoever_made_room_goes_on_as_if_nothing_had_been(
    kind: Kind, checkpoint: Checkpoint
) -> None:
    engine = make_engine(kind, checkpoint, slots=1)
    request = Request(prompt(40, 1), sampling=_LONG)
    (expected,) = engine.generate([request])
    patient = engine.submit(replace(request, priority=1))
    for _ in range(5):
        engine.step()
    urgent = engine.submit(Request((9, 9), sampling=_LONG, priority=0))
    while not urgent.done:
        engine.step()
    assert not patient.done and 4 <= len(patient.ids) < 20
    finish(engine)
    assert_same(patient.completion(0), expected, kind)


@for_each("windowed", [False, True])
@for_each("leaves", ["cancelled in its prompt", "by failing"])
def test_numbers_that_are_none_stay_with_the_request_that_made_them(kind: Kind, windowed: bool, leaves: str) -> None:
    """Attention multiplies what is masked by zero, and 0 · NaN is NaN: a page that held NaN must not be read again,
    however the request that wrote it has left, nor one that it gave back before, behind a window."""
    base = tiny_mistral() if windowed else tiny_llama()
    weights = dict(base.model.state_dict())
    embedding = weights["embedding.tokens.weight"].clone()
    config = replace(base.config, head=replace(base.config.head, tied=False))  # type: ignore[type-var]
    weights |= {"head.projection.weight": embedding.clone()}
    embedding[_POISON] = float("nan")
    weights["embedding.tokens.weight"] = embedding
    poisoned = assemble(config, weights, base.tokenizer, source="poisoned")
    sampling = replace(_LONG, banned_tokens=(_POISON,))
    clean = [Request(prompt(n, n)[:n], sampling=sampling, id=str(n)) for n in (5, 230)]
    clean = [replace(r, prompt_ids=tuple(min(token, 199) for token in r.prompt_ids)) for r in clean]
    options = {"slots": 1, "context_length": 256, "cache_tokens": 256, "prefill_tokens": 50, "speculation": None}
    expected = make_engine(kind, poisoned, **options).generate(clean)
    engine = make_engine(kind, poisoned, **options)
    live = engine.submit(Request((_POISON,) * 240, sampling=sampling))
    if leaves == "by failing":
        finish(engine)
        assert isinstance(live.error, FloatingPointError)
    else:
        engine.step()
        engine.cancel(live.id)
    for request, completion in zip(clean, expected, strict=True):
        assert_same(engine.generate([request])[0], completion, kind)


@for_each("slots", [1, 3])
def test_a_request_that_cannot_enter_fails_alone(kind: Kind, checkpoint: Checkpoint, monkeypatch, slots: int) -> None:
    """It does not stay at the head of the line, to fail every later step as well, and takes nobody with it."""
    engine = make_engine(kind, checkpoint, slots=slots)
    request = Request(prompt(20, 1), sampling=_LONG)
    (expected,) = engine.generate([request])
    running = engine.submit(request)
    engine.step()
    open_sequence, other = engine.batcher.open, replace(request, prompt_ids=prompt(20, 2))

    def failing(ids, *source):
        if ids == other.prompt_ids:
            raise MemoryError("no memory for its source")
        return open_sequence(ids, *source)

    monkeypatch.setattr(engine.batcher, "open", failing)
    broken, next_one = engine.submit(other), engine.submit(request)
    finish(engine)
    assert isinstance(broken.error, MemoryError)
    for live in (running, next_one):
        assert_same(live.completion(0), expected, kind)
    assert engine.cache_usage == 0
