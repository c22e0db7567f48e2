"""Requests that bring one prompt at the same time compute it once, whatever becomes of the first of them."""

import random
import time
from dataclasses import replace
from typing import Any

import pytest
from engine_cases import Kind, assert_same, count_tokens, make_engine, prompt
from engine_cases import checkpoint as checkpoint_of

from lmworks.generate.protocol import Completion, Request, SamplingParameters
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.presets import llama, mistral
from slow_cases import slow

_SIZES: dict[str, Any] = {
    "vocabulary": 260,
    "width": 32,
    "layers": 2,
    "heads": 2,
    "kv_heads": 1,
    "hidden": 64,
    "context_length": 640,
}
_LENGTH = 535  # modules share whole chunks of 256 tokens, fused kernels whole pages
_TOKENS = 6
_SAMPLING = SamplingParameters(max_tokens=_TOKENS, temperature=1.0, ignore_eos=True)
_REQUESTS = [Request(prompt(_LENGTH, 1), sampling=replace(_SAMPLING, seed=n), id=str(n)) for n in range(5)]


@pytest.fixture(scope="module", params=["everything is seen", "windows"])
def checkpoint(request) -> Checkpoint:
    if request.param == "windows":
        return checkpoint_of(mistral(**_SIZES, window=40, tied=True))
    return checkpoint_of(llama(**_SIZES, tied=True))


@pytest.fixture(scope="module")
def alone(kind: Kind, checkpoint: Checkpoint) -> list[Completion]:
    return [make_engine(kind, checkpoint, speculation=None).generate([request])[0] for request in _REQUESTS]


@pytest.mark.parametrize(
    ("prefill_tokens", "slots"), [(50, 2), (256, 5), (2000, 5), *slow((50, 5), (256, 2), (2000, 2))]
)
def test_one_prompt_is_computed_once(
    kind: Kind, checkpoint, alone, monkeypatch, prefill_tokens: int, slots: int
) -> None:
    engine = make_engine(kind, checkpoint, slots=slots, prefill_tokens=prefill_tokens, speculation=None)
    tokens = count_tokens(monkeypatch, engine)
    completions = engine.generate(_REQUESTS)
    for completion, expected in zip(completions, alone, strict=True):
        assert_same(completion, expected, kind)
    unit = engine.batcher.cache.alignment
    shared = (_LENGTH - 1) // unit * unit
    assert [completion.cached_tokens for completion in completions] == [0] + [shared] * 4
    assert sum(tokens) == _LENGTH + 4 * (_LENGTH - shared) + 5 * (_TOKENS - 1)
    assert engine.cache_usage == 0


def test_what_differs_behind_the_beginning_is_computed_by_each(kind: Kind, checkpoint, monkeypatch) -> None:
    shared = 512  # two steps
    requests = [replace(r, prompt_ids=(*r.prompt_ids[:shared], *prompt(40, 7 + n))) for n, r in enumerate(_REQUESTS)]
    engine = make_engine(kind, checkpoint, slots=5, speculation=None)
    tokens = count_tokens(monkeypatch, engine)
    completions = engine.generate(requests)
    assert sum(tokens) == shared + 5 * 40 + 5 * (_TOKENS - 1)
    for request, completion in zip(requests, completions, strict=True):
        assert_same(completion, make_engine(kind, checkpoint, speculation=None).generate([request])[0], kind)


@pytest.mark.parametrize("cache_tokens", [640, 2000])
@pytest.mark.parametrize("rounds", [5, *slow(12)])
def test_whatever_becomes_of_the_first_the_others_end_as_if_alone(
    kind: Kind, checkpoint, alone, cache_tokens, rounds: int, monkeypatch
) -> None:
    """Cancelled, late, overtaken or preempted, at any step."""
    chance = random.Random(1)
    for _ in range(rounds):
        engine = make_engine(kind, checkpoint, slots=3, cache_tokens=cache_tokens, prefill_tokens=300, speculation=None)
        late, clock = chance.randrange(2 * len(_REQUESTS)), time.perf_counter
        lives = [
            engine.submit(replace(r, priority=chance.randrange(2), deadline=100 if n == late else None))
            for n, r in enumerate(_REQUESTS)
        ]
        for step in range(200):
            if engine.batcher.idle:
                break
            engine.step()
            if step == 1:
                victim = chance.choice(lives)
                if not victim.done and late >= len(_REQUESTS):
                    engine.cancel(victim.id)
                monkeypatch.setattr(time, "perf_counter", lambda clock=clock: clock() + 101)
        assert engine.batcher.idle and engine.cache_usage == 0
        for live, expected in zip(lives, alone, strict=True):
            if live.finish_reason in ("cancelled", "deadline"):
                assert tuple(live.ids) == expected.ids[: len(live.ids)]  # type: ignore[index]
            else:
                assert_same(live.completion(0), expected, kind)
