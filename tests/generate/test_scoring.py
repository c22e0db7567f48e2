"""Scores against a plain forward over each pair."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmworks.generate import scoring
from lmworks.generate.engine import Engine

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
def engine(tiny_llama) -> Engine:
    return Engine(tiny_llama, dtype=torch.float32)


@settings(max_examples=25, deadline=None)
@given(contexts=st.lists(_IDS, min_size=1, max_size=3), data=st.data())
def test_equal_to_a_plain_forward(engine, tiny_llama, contexts: list[list[int]], data: st.DataObject) -> None:
    """Shared, different and empty contexts, empty continuations, in any order."""
    pairs = data.draw(st.lists(st.tuples(st.sampled_from(contexts), _IDS), max_size=8))
    scores = engine.score([context for context, _ in pairs], [continuation for _, continuation in pairs])
    assert len(scores) == len(pairs)
    for (context, continuation), score in zip(pairs, scores, strict=True):
        expected = _plain(tiny_llama, context, continuation)
        assert score.log_probabilities == pytest.approx(expected, abs=_TOLERANCE)
        assert score.total == pytest.approx(sum(expected), abs=_TOLERANCE * 12)


def test_small_limits_change_nothing(engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A context split over several rows, rows over several forwards, logits in several parts."""
    generator = torch.Generator().manual_seed(0)
    context = torch.randint(0, 260, (30,), generator=generator).tolist()
    continuations = [torch.randint(0, 260, (n,), generator=generator).tolist() for n in (1, 25, 3, 9, 14, 2, 30)]
    expected = engine.score([context] * 7, continuations)
    for name, value in (("ROW_TOKENS", 20), ("BATCH_TOKENS", 64), ("LOGIT_POSITIONS", 5)):
        monkeypatch.setattr(scoring, name, value)
    for small, large in zip(engine.score([context] * 7, continuations), expected, strict=True):
        assert small.log_probabilities == pytest.approx(large.log_probabilities, abs=_TOLERANCE)


def test_a_shared_context_is_computed_once(engine, tiny_llama, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []
    hidden = tiny_llama.model.hidden
    monkeypatch.setattr(
        tiny_llama.model, "hidden", lambda ids, **rest: computed.append(ids.numel()) or hidden(ids, **rest)
    )
    context, continuations = list(range(100)), [[n, n + 1, n + 2] for n in range(10)]
    engine.score([context] * 10, continuations)
    assert computed == [100 + 10 * 2], (
        "the context once, and of each continuation all but the token that is only predicted"
    )


def test_the_probabilities_of_all_continuations_sum_to_one(engine) -> None:
    scores = engine.score([[5, 6]] * 260, [[token] for token in range(260)])
    assert torch.tensor([score.total for score in scores]).exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_what_cannot_be_scored_is_refused(engine) -> None:
    with pytest.raises(ValueError, match=r"200 \+ 57 tokens.* 256"):
        engine.score([[1] * 200], [[1] * 57])
    with pytest.raises(ValueError, match="1 contexts for 2"):
        engine.score([[1]], [[1], [2]])
    with pytest.raises(ValueError, match="no mean"):
        _ = engine.score([[1]], [[]])[0].mean


@pytest.mark.weights
def test_real_weights_find_a_sentence_less_surprising_in_its_context(smollm2_checkpoint) -> None:
    checkpoint = smollm2_checkpoint
    engine, encode = Engine(checkpoint, dtype=torch.float32), checkpoint.tokenizer.encode
    context = encode("The Eiffel Tower was built by Gustave Eiffel's company between 1887 and 1889.")
    sentence = encode(" Gustave Eiffel's company built the tower between 1887 and 1889.")
    with_context, without = engine.score([context, []], [sentence, sentence])
    assert with_context.log_probabilities == pytest.approx(_plain(checkpoint, context, sentence), abs=1e-3)
    assert without.log_probabilities == pytest.approx(_plain(checkpoint, [], sentence), abs=1e-3)
    assert with_context.mean > without.mean + 0.5
