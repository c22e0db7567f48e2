"""Span masking: where spans may stand, how long they are, and both losses token by token."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from lmworks.data.token_dataset import TokenDataset
from lmworks.model.presets import bert, spanbert
from lmworks.train.objectives.corruption_vocabulary import Vocabulary, Words
from lmworks.train.objectives.span_boundary import SpanBoundary, draw_spans, length_chances
from objective_cases import (
    batch_of,
    check_nothing,
    check_padding,
    check_parts,
    learn,
    new_model,
    some_documents,
    unigram_nats,
)

END, MASK = 256, 257
TEXT = np.arange(258) < 256
VOCABULARY = Vocabulary(MASK, TEXT)
OBJECTIVE = SpanBoundary(VOCABULARY)
CONFIG = spanbert(258, 32, 2, 2, 64, context_length=64)


def a_batch(folder, lengths=(7, 20, 3, 12, 9, 15, 1, 18)):
    return batch_of(folder, some_documents(lengths, END), 32)


class TestInvariances:
    def test_parts_and_order(self, tmp_path):
        check_parts(new_model(CONFIG, "bert"), OBJECTIVE, a_batch(tmp_path / "d"))

    def test_padding(self, tmp_path):
        check_padding(new_model(CONFIG, "bert"), OBJECTIVE, a_batch(tmp_path / "d"))

    def test_documents_without_text_ask_nothing(self, tmp_path):
        check_nothing(new_model(CONFIG, "bert"), OBJECTIVE, batch_of(tmp_path / "d", [np.array([END])] * 2, 4))


WORDS = Words(np.array([True, False, True]), np.array([False, False, True]))  # begins, continues, special


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=30), min_size=1, max_size=4),
    st.floats(0.05, 0.6),
    st.integers(0, 2**40),
)
def test_spans_are_whole_words_between_two_that_are_seen(documents, rate, seed):
    """Documents are lists of words: their sizes, 0 for a special token."""
    ids = np.concatenate([[2] if size == 0 else [0, *[1] * (size - 1)] for words in documents for size in words])
    numbers = np.repeat(np.arange(len(documents)), [sum(max(size, 1) for size in words) for words in documents])
    objective = SpanBoundary(Vocabulary(2, np.array([True, True, False]), WORDS), rate)
    spans = draw_spans(ids, numbers, objective, np.random.default_rng(seed))
    hidden = np.zeros(len(ids), bool)
    for span in spans:
        assert not hidden[span].any()
        hidden[span] = True
    word = WORDS.numbers(ids, numbers)
    for span in spans:
        assert span.start > 0 and span.stop < len(ids)
        assert not hidden[span.start - 1] and not hidden[span.stop]
        assert len(set(numbers[span.start - 1 : span.stop + 1].tolist())) == 1
        assert word[span.start - 1] != word[span.start] and word[span.stop - 1] != word[span.stop]
        assert 1 <= word[span.stop - 1] - word[span.start] + 1 <= 10
        assert (ids[span] != 2).all()
    allowed = max(round(rate * int((ids != 2).sum())), 1)
    assert hidden.sum() <= allowed or len(spans) == 1


def test_tokens_are_hidden_by_their_exact_number(tmp_path):
    batch = batch_of(tmp_path / "d", some_documents([400] * 20), 400)
    examples = OBJECTIVE.examples(batch, 0)
    assert examples.mask.sum(1).tolist() == [60] * 20
    assert not torch.equal(examples.mask[0], OBJECTIVE.examples(batch, 1).mask[0])


def test_lengths_are_the_papers():
    chances = length_chances(0.2, 10)
    assert chances.sum() == pytest.approx(1)
    assert chances[1] / chances[0] == pytest.approx(0.8)
    assert (chances * np.arange(1, 11)).sum() == pytest.approx(3.8, abs=0.005)  # section 3.1
    generator, ids = np.random.default_rng(0), np.full(2000, 5)
    drawn = np.concatenate(
        [
            [span.stop - span.start for span in draw_spans(ids, np.zeros_like(ids), OBJECTIVE, generator)[:60]]
            for _ in range(60)
        ]
    )
    # Of the first spans of long texts, which have room for any; variance 7.2, five standard deviations.
    assert abs(drawn.mean() - 3.797) < 5 * (7.2 / len(drawn)) ** 0.5
    assert drawn.max() == 10


def test_a_span_is_hidden_replaced_or_left_as_one(tmp_path):
    batch = batch_of(tmp_path / "d", some_documents([500] * 60), 500)
    examples = OBJECTIVE.examples(batch, seed=2)
    assert torch.equal(torch.where(examples.mask, examples.targets, examples.ids), batch.ids)
    fates = {"hidden": 0, "same": 0, "other": 0}
    for row in range(60):
        for first in ((examples.places[row] == 0) & examples.mask[row]).nonzero()[:, 0].tolist():
            span = slice(first, int(examples.ends[row, first]))
            assert set(examples.starts[row, span].tolist()) == {first - 1}
            assert examples.places[row, span].tolist() == list(range(span.stop - first))
            seen, true = examples.ids[row, span], examples.targets[row, span]
            if (seen == MASK).any():
                assert (seen == MASK).all()
                fates["hidden"] += 1
            else:
                fates["same" if torch.equal(seen, true) else "other"] += 1
    n = sum(fates.values())
    assert n > 1000
    for fate, share in (("hidden", 0.8), ("same", 0.1), ("other", 0.1)):
        assert abs(fates[fate] - share * n) < 5 * (n * share * (1 - share)) ** 0.5 + n / 256 / 10, fate


def test_both_losses_token_by_token(tmp_path):
    model = new_model(CONFIG, "bert")
    objective = SpanBoundary(VOCABULARY, rate=0.3, places=3)
    examples = objective.examples(a_batch(tmp_path / "d", (31, 31)), 0)
    losses = objective.losses(model, examples)
    hidden = model.hidden(examples.ids)
    masked, boundary, count = 0.0, 0.0, 0
    for row, column in examples.mask.nonzero().tolist():
        target = examples.targets[row, column]
        masked += F.cross_entropy(model.head(hidden[row, column], model.tokens), target)
        left, right = column - 1, column + 1
        while examples.mask[row, left]:
            left -= 1
        while examples.mask[row, right]:
            right += 1
        if column - left <= 3:
            logits = model.head.spans(
                hidden, model.tokens, *(torch.tensor([at]) for at in (row, left, right, column - left - 1))
            )
            boundary += F.cross_entropy(logits[0], target)
            count += 1
    torch.testing.assert_close(losses["masked"].sum, masked)
    torch.testing.assert_close(losses["boundary"].sum, boundary)
    assert losses["boundary"].count == count < losses["masked"].count


@pytest.mark.slow
def test_it_learns(text_dataset, tmp_path):
    """Chains in which a token follows from the one before: the first of a span follows from the boundary."""
    config = spanbert(258, 64, 1, 4, 128, context_length=64)
    objective = SpanBoundary(VOCABULARY, rate=0.3, p=1.0)
    log = learn(config, "transformer", objective, text_dataset, tmp_path / "run", rate=1e-2, steps=60)
    baseline = unigram_nats(TokenDataset(text_dataset))
    assert log[0]["masked"] > 5.3 and log[0]["boundary"] > 5.3
    assert np.mean([line["boundary"] for line in log[-5:]]) < baseline - 0.5
    assert np.mean([line["masked"] for line in log[-5:]]) < baseline


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(ValueError, match="max_span must be 1 or more"):
        SpanBoundary(VOCABULARY, max_span=0)
    with pytest.raises(ValueError, match="p must be above 0"):
        SpanBoundary(VOCABULARY, p=0)
    examples = OBJECTIVE.examples(a_batch(tmp_path / "d"), 0)
    with pytest.raises(TypeError, match="SpanBERT's head"):
        OBJECTIVE.losses(new_model(bert(258, 32, 1, 2, 64), "bert"), examples)
    with pytest.raises(ValueError, match="knows 10 places in a span, not 11"):
        SpanBoundary(VOCABULARY, places=11).losses(new_model(CONFIG, "bert"), examples)
