"""What the cache must not change: chunks, found beginnings, preemption, windows, formats, neighbours.

Each is tried with the fused kernels, bit for bit, and with the model's own modules, to rounding.
"""

from dataclasses import replace

import pytest
from engine_cases import WINDOW, Kind, assert_same, make_engine, naive, prompt, tiny_mistral
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmworks.generate.paged_cache import PAGE
from lmworks.generate.protocol import Completion, Request, SamplingParameters
from lmworks.model.checkpoint import Checkpoint
from slow_cases import slow

_SAMPLINGS = (
    SamplingParameters(max_tokens=12),
    SamplingParameters(max_tokens=40, temperature=1.0, seed=1, ignore_eos=True),
    SamplingParameters(max_tokens=5, temperature=0.8, top_k=10, seed=2),
    SamplingParameters(max_tokens=30, temperature=1.2, top_p=0.9, seed=3, ignore_eos=True),
    SamplingParameters(max_tokens=9, temperature=1.0, repetition_penalty=1.3, seed=4),
    SamplingParameters(max_tokens=1),
)
# Some begin alike, for one page or for three.
_PROMPTS = (prompt(50, 0), prompt(50, 0)[:20] + prompt(33, 1), prompt(50, 0)[:49] + prompt(30, 2), prompt(3, 3))
_REQUESTS = [
    Request(_PROMPTS[n % 4], sampling=sampling, id=str(n)) for n, sampling in enumerate((*_SAMPLINGS, *_SAMPLINGS))
]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """Not here: what threads would change must not be used."""


@pytest.fixture(scope="module")
def alone(kind: Kind, checkpoint: Checkpoint) -> dict[str, Completion]:
    """Each request by itself, in an engine that has seen nothing."""
    return {request.id: make_engine(kind, checkpoint, speculation=None).generate([request])[0] for request in _REQUESTS}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(_REQUESTS), min_size=2, max_size=4, unique_by=id),
    st.integers(1, 4),
    st.integers(1, 120),
    st.sampled_from(("lookup", None)),
)
def test_neighbours_order_slots_chunks_and_hits_change_nothing(
    kind: Kind, checkpoint: Checkpoint, alone, order: list[Request], slots: int, prefill_tokens: int, speculation
) -> None:
    engine = make_engine(kind, checkpoint, slots=slots, prefill_tokens=prefill_tokens, speculation=speculation)
    for completion in (*engine.generate(order), *engine.generate(order[:2])):  # the second time from the cache
        assert_same(completion, alone[completion.id], kind)
    assert engine.cache_usage == 0


@pytest.mark.slow
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(_REQUESTS), st.integers(1, 6), st.integers(1, 120), st.sampled_from(("lookup", None)))
def test_all_requests_at_once_change_nothing(
    kind: Kind, checkpoint: Checkpoint, alone, order: list[Request], slots: int, prefill_tokens: int, speculation
) -> None:
    engine = make_engine(kind, checkpoint, slots=slots, prefill_tokens=prefill_tokens, speculation=speculation)
    for completion in (*engine.generate(order), *engine.generate(order[:4])):
        assert_same(completion, alone[completion.id], kind)
    assert engine.cache_usage == 0


@pytest.mark.parametrize("prefill_tokens", [7, 16, *slow(1, 100)])
def test_a_prompt_in_chunks_is_the_prompt_at_once(kind: Kind, checkpoint: Checkpoint, prefill_tokens: int) -> None:
    request = Request(prompt(200, 5), sampling=SamplingParameters(max_tokens=8, alternatives=3))
    (whole,) = make_engine(kind, checkpoint).generate([request])
    (chunks,) = make_engine(kind, checkpoint, prefill_tokens=prefill_tokens).generate([request])
    assert_same(chunks, whole, kind)


def test_a_beginning_that_is_found_is_told_and_changes_nothing(kind: Kind, checkpoint: Checkpoint) -> None:
    engine = make_engine(kind, checkpoint, context_length=256, speculation=None)
    # modules find whole chunks of their grid of 256 alone, which no prompt of this model has
    grid = engine.batcher.runner.grid or PAGE
    request = Request(prompt(100, 6), sampling=SamplingParameters(max_tokens=8))
    first, again = engine.generate([request])[0], engine.generate([request])[0]
    assert (first.cached_tokens, again.cached_tokens) == (0, 99 // grid * grid)
    assert_same(again, first, kind)
    longer = replace(request, prompt_ids=(*request.prompt_ids, *(first.ids or ()), 1))
    (follow_up,) = engine.generate([longer])
    assert follow_up.cached_tokens == (100 + 8 - 1) // grid * grid, "the completion's own tokens too, but the last"
    assert_same(follow_up, make_engine(kind, checkpoint).generate([longer])[0], kind)


def test_a_cache_that_is_too_small_for_all_changes_nothing(kind: Kind, checkpoint: Checkpoint, alone) -> None:
    """128 tokens, for requests of 20 to 120: whoever came last makes room, again and again."""
    engine = make_engine(kind, checkpoint, slots=4, context_length=128, cache_tokens=128, prefill_tokens=30)
    lives = [engine.submit(request) for request in _REQUESTS]
    used = 0.0
    while not engine.batcher.idle:
        engine.step()
        used = max(used, engine.cache_usage)
    for live in lives:
        assert_same(live.completion(0), alone[live.id], kind)
    assert engine.batcher.scheduler.preemptions > 0 and used > 0.7
    assert engine.cache_usage == 0


def test_an_int8_cache_is_close(kind: Kind, checkpoint: Checkpoint) -> None:
    contexts, continuations = [prompt(40, n) for n in range(4)], [prompt(60, 10 + n) for n in range(4)]
    exact = make_engine(kind, checkpoint).score(contexts, continuations)
    rounded = make_engine(kind, checkpoint, cache_dtype="int8").score(contexts, continuations)
    for one, other in zip(exact, rounded, strict=True):
        # A key is off by 1/254 of its largest value, and logits of magnitude 10 follow from it.
        assert one.log_probabilities == pytest.approx(other.log_probabilities, abs=0.7)
        assert one.log_probabilities != other.log_probabilities
        errors = [abs(a - b) for a, b in zip(one.log_probabilities, other.log_probabilities, strict=True)]
        assert sum(errors) / len(errors) < 0.1


def test_pages_behind_a_window_are_given_back_and_missed_by_nobody(kind: Kind) -> None:
    checkpoint = tiny_mistral()
    engine = make_engine(kind, checkpoint, slots=2, prefill_tokens=30, speculation=None)
    sampling = SamplingParameters(max_tokens=100, ignore_eos=True)
    lives = [engine.submit(Request(prompt(120, n), sampling=sampling)) for n in range(2)]
    chunk = engine.batcher.runner.grid or 30
    while not engine.batcher.idle:
        engine.step()
        decoding = all(live.ids for live in lives)
        held = round(engine.cache_usage * engine.batcher.cache.pages)
        each = WINDOW // PAGE + 2 if decoding else (WINDOW + chunk) // PAGE + 2
        assert held <= 2 * each, "a text of 220 tokens has 14 pages"
    assert [live.ids for live in lives] == [naive(checkpoint, live.prompt_ids, 100) for live in lives]


@pytest.mark.parametrize(("count", "hits"), [(8, 90), *slow((16, 200))])
def test_windows_find_the_beginning_of_a_text_again(kind: Kind, count: int, hits: int) -> None:
    checkpoint = tiny_mistral()
    engine = make_engine(kind, checkpoint, cache_tokens=256, slots=1)
    for request in [Request(_PROMPTS[n % 4] * 2, sampling=_SAMPLINGS[n % 6], id=str(n)) for n in range(count)]:
        (completion,) = engine.generate([request])
        (fresh,) = make_engine(kind, checkpoint, speculation=None).generate([request])
        assert_same(completion, fresh, kind)
    if kind == "fused":
        assert engine.batcher.cache.hit_tokens > hits
