"""Scores against a plain forward over each pair."""

import pytest
import torch
from engine_cases import KINDS, Kind, assert_same, count_tokens, finish, make_engine, prompt, tolerance
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.generate import scoring
from lmworks.generate.engine import Engine
from lmworks.generate.paged_cache import PAGE
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.model.checkpoint import Checkpoint

_IDS = st.lists(st.integers(0, 259), max_size=12)
# float32, three layers, logits of magnitude 10: packing changes the order of sums, which moves a log-probability by
# 1e-5 at most; a wrong mask, position or target moves it by more than 0.1.
_TOLERANCE = 5e-5


@torch.inference_mode()
def _plain(checkpoint, context: list[int], continuation: list[int]) -> list[float]:
    context = context or [checkpoint.tokenizer.special_ids["<|endoftext|>"]]
    log_probabilities = checkpoint.model(torch.tensor([context + continuation])).log_softmax(-1)[0]
    return [log_probabilities[len(context) - 1 + i, token].item() for i, token in enumerate(continuation)]


@pytest.fixture(scope="module")
def engine(kind: Kind, checkpoint: Checkpoint) -> Engine:
    return make_engine(kind, checkpoint)


@given(contexts=st.lists(_IDS, min_size=1, max_size=3), data=st.data())
def test_equal_to_a_plain_forward(engine, checkpoint, contexts: list[list[int]], data: st.DataObject) -> None:
    """Shared, different and empty contexts, empty continuations, in any order."""
    pairs = data.draw(st.lists(st.tuples(st.sampled_from(contexts), _IDS), max_size=8))
    scores = engine.score([context for context, _ in pairs], [continuation for _, continuation in pairs])
    assert len(scores) == len(pairs)
    for (context, continuation), score in zip(pairs, scores, strict=True):
        expected = _plain(checkpoint, context, continuation)
        assert score.log_probabilities == pytest.approx(expected, abs=_TOLERANCE)
        assert score.total == pytest.approx(sum(expected), abs=_TOLERANCE * 12)


def test_small_limits_change_nothing(engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A context split over several forwards, continuations as well, and few rows of logits at a time."""
    context, continuations = list(prompt(30, 0)), [list(prompt(n, n)) for n in (1, 25, 3, 9, 14, 2, 30)]
    expected = engine.score([context] * 7, continuations)
    for name, value in (("BATCH_TOKENS", 20), ("LOGIT_ROWS", 5)):
        monkeypatch.setattr(scoring, name, value)
    engine.batcher.cache.forget()
    for small, large in zip(engine.score([context] * 7, continuations), expected, strict=True):
        assert small.log_probabilities == pytest.approx(large.log_probabilities, abs=_TOLERANCE)


def test_a_shared_context_is_computed_once(engine, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = count_tokens(monkeypatch, engine)
    context, continuations = list(prompt(100, 1)), [[n, n + 1, n + 2] for n in range(10)]
    engine.score([context] * 10, continuations)
    # the context once, and of each continuation all but the token that is only predicted
    assert computed == [100, 10 * 2]
    assert engine.cache_usage == 0


def test_a_completions_context_is_found_again(checkpoint) -> None:
    engine = make_engine("fused", checkpoint)
    (completion,) = engine.generate([Request(prompt(50, 2), sampling=SamplingParameters(max_tokens=20))])
    assert completion.ids is not None
    (score,) = engine.score([prompt(50, 2)], [completion.ids])
    assert engine.batcher.cache.hit_tokens >= 48
    assert score.log_probabilities == pytest.approx(completion.log_probabilities, abs=tolerance("fused"))


@for_each("kind", KINDS)
def test_a_small_cache_is_enough_for_many_pairs(kind: Kind, checkpoint) -> None:
    """Of short contexts that each need a page, of one long context with many continuations, of a pair that fills it."""
    small = make_engine(kind, checkpoint, slots=2, context_length=64, cache_tokens=64)
    large = make_engine(kind, checkpoint, slots=8)
    pages = small.batcher.cache.pages
    contexts = [[n] for n in range(60)] + [list(prompt(30, 3))] * 30 + [list(prompt(41, 4))]
    continuations = [[n, 1, 2] for n in range(60)] + [list(prompt(20, n)) for n in range(30)]
    continuations += [list(prompt((pages - 1) * PAGE - 41, 5))]
    for one, other in zip(small.score(contexts, continuations), large.score(contexts, continuations), strict=True):
        assert one.log_probabilities == pytest.approx(other.log_probabilities, abs=_TOLERANCE)
    assert small.cache_usage == 0
    with pytest.raises(ValueError, match="shorten the context"):
        small.score([[1] * 50], [[1] * 50])


@for_each("kind", KINDS)
def test_scores_may_be_longer_than_what_the_engine_generates(kind: Kind, checkpoint) -> None:
    """As long as the model and the cache allow."""
    engine = make_engine(kind, checkpoint, slots=4, context_length=64)
    context, continuation = list(prompt(150, 6)), list(prompt(60, 7))
    (score,) = engine.score([context], [continuation])
    assert score.log_probabilities == pytest.approx(_plain(checkpoint, context, continuation), abs=_TOLERANCE)


@for_each("kind", KINDS)
def test_requests_make_room_for_scores_and_go_on_as_if_nothing_had_been(kind: Kind, checkpoint) -> None:
    engine = make_engine(kind, checkpoint, slots=2, context_length=128, cache_tokens=128)
    sampling = SamplingParameters(max_tokens=30, temperature=1.0, seed=1, ignore_eos=True)
    requests = [Request(prompt(40, n), sampling=sampling) for n in range(2)]
    expected = make_engine(kind, checkpoint).generate(requests)
    lives = [engine.submit(request) for request in requests]
    for _ in range(6):
        engine.step()
    job = engine.submit_score([prompt(100, 8)] * 3, [prompt(n, n) for n in (20, 8, 3)])
    finish(engine)
    scores = job.future.result(0)
    assert engine.batcher.scheduler.preemptions > 0
    for live, completion in zip(lives, expected, strict=True):
        assert_same(live.completion(0), completion, kind)
    for n, score in zip((20, 8, 3), scores, strict=True):
        wanted = _plain(checkpoint, list(prompt(100, 8)), list(prompt(n, n)))
        assert score.log_probabilities == pytest.approx(wanted, abs=_TOLERANCE)
    assert engine.cache_usage == 0


@for_each("kind", KINDS)
def test_a_score_that_is_no_number_is_an_error(kind: Kind, checkpoint) -> None:
    engine = make_engine(kind, checkpoint)
    state = dict(checkpoint.model.state_dict())
    engine.load_weights({name: tensor * float("nan") for name, tensor in state.items()}, 1)
    with pytest.raises(FloatingPointError, match="not finite"):
        engine.score([[1, 2]], [[3, 4]])
    assert engine.cache_usage == 0


def test_the_probabilities_of_all_continuations_sum_to_one(engine) -> None:
    scores = engine.score([[5, 6]] * 260, [[token] for token in range(260)])
    assert torch.tensor([score.total for score in scores]).exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_alternatives_are_no_more_than_there_are_tokens(engine) -> None:
    (score,) = engine.score([[5, 6]], [[7, 8]], alternatives=300)
    assert [len(row) for row in score.alternatives] == [260, 260]


def test_what_cannot_be_scored_is_refused(engine) -> None:
    with pytest.raises(ValueError, match=r"200 \+ 57 tokens.* 256"):
        engine.score([[1] * 200], [[1] * 57])
    with pytest.raises(ValueError, match="1 contexts for 2"):
        engine.score([[1]], [[1], [2]])
    for context, continuation in (([1, 260], [2]), ([1], [2, -1]), ([1], [2, 260])):
        with pytest.raises(ValueError, match=r"outside \[0, 260\)"):
            engine.score([context], [continuation])
    with pytest.raises(ValueError, match="no mean"):
        _ = engine.score([[1]], [[]])[0].mean


@for_each("limits", [{}, {"BATCH_TOKENS": 7, "LOGIT_ROWS": 3}])
def test_alternatives_are_those_of_a_plain_forward(tiny_llama, monkeypatch, limits):
    for name, value in limits.items():
        monkeypatch.setattr(scoring, name, value)
    contexts, continuations = [[5, 6], [5, 6], [9]], [[1, 2, 3, 4], [], [8, 7]]
    scores = Engine(tiny_llama, weights="float32").score(contexts, continuations, alternatives=4)
    for context, continuation, score in zip(contexts, continuations, scores, strict=True):
        with torch.inference_mode():
            logits = tiny_llama.model(torch.tensor([context + continuation]))[0]  # (length, vocabulary)
        values, ids = logits.log_softmax(-1)[len(context) - 1 : -1].topk(4)
        assert [[token for token, _ in row] for row in score.alternatives] == (ids.tolist() if continuation else [])
        best = [value for row in score.alternatives for _, value in row]
        assert best == pytest.approx(values.flatten().tolist() if continuation else [], abs=5e-5)
        for token, value, row in zip(continuation, score.log_probabilities, score.alternatives, strict=True):
            assert dict(row).get(token, value) == value  # the same bits: a client asks whether it is the best one


def test_there_are_no_alternatives_unless_asked_for(tiny_llama):
    (score,) = Engine(tiny_llama, weights="float32").score([[1]], [[2, 3]])
    assert score.alternatives == ()
