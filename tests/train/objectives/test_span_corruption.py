"""Span corruption: exact numbers, nothing lost, and T5's own loss."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import T5ForConditionalGeneration

from byte_tokenizer import byte_tokenizer
from kit.tables import for_each
from lmworks.data.token_dataset import TokenDataset
from lmworks.model.checkpoint import assemble
from lmworks.model.presets import t5
from lmworks.train.objectives.objective import count_rows
from lmworks.train.objectives.span_corruption import (
    SpanCorruption,
    corrupt,
    missing,
    noise_mask,
    sentinels_of,
)
from lmworks.train.validation import validate
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
from training_cases import new_checkpoint

END, SENTINELS = 256, tuple(range(320, 256, -1))
CONFIG = t5(321, 32, 2, 2, 64, 16, context_length=64)
OBJECTIVE = SpanCorruption(SENTINELS, END)


def a_batch(folder, lengths=(7, 20, 3, 12, 9, 15, 1, 18)):
    return batch_of(folder, some_documents(lengths, END), 32)


class TestInvariances:
    @for_each("apart", [True, False])
    def test_parts_and_order(self, apart, tmp_path):
        objective = SpanCorruption(SENTINELS, END, apart=apart)
        check_parts(new_model(CONFIG, "t5").double(), objective, a_batch(tmp_path / "d"))

    def test_padding(self, tmp_path):
        check_padding(new_model(CONFIG, "t5").double(), OBJECTIVE, a_batch(tmp_path / "d"))

    def test_padding_of_the_examples_changes_nothing(self, tmp_path):
        """A text beside longer ones has the loss that it has alone."""
        model, examples = new_model(CONFIG, "t5").double(), OBJECTIVE.examples(a_batch(tmp_path / "d"), 0)
        together = OBJECTIVE.losses(model, examples)["rewritten"]
        alone = 0.0
        for row in range(len(examples.ids)):
            source, target = examples.attention_mask[row], examples.mask[row]
            logits = model(examples.ids[row, source][None], examples.decoder_ids[row, target][None])
            alone += torch.nn.functional.cross_entropy(logits[0], examples.targets[row, target], reduction="sum")
        torch.testing.assert_close(together.sum.double(), alone, rtol=1e-5, atol=0)  # the loss is taken in float32

    def test_documents_without_text_ask_nothing(self, tmp_path):
        check_nothing(new_model(CONFIG, "t5"), OBJECTIVE, batch_of(tmp_path / "d", [np.array([END])] * 2, 4))


@settings(deadline=None)
@given(st.integers(2, 700), st.floats(0.01, 0.95), st.floats(1, 12), st.integers(0, 2**40))
def test_nothing_is_lost_and_the_numbers_are_exact(length, rate, mean, seed):
    sentinels = tuple(range(-1, -2 - length, -1))
    ids = np.arange(length)
    noise = noise_mask(length, rate, mean, np.random.default_rng(seed))
    tokens, spans = missing(length, rate, mean)
    assert noise.sum() == tokens
    assert np.diff(noise, prepend=False).sum() == 2 * spans - 1  # it begins with what is there and ends with a span
    source, target = corrupt(ids, noise, sentinels, -(10**6))
    assert (len(source), len(target)) == lengths_of(length, rate, mean)
    assert source[-1] == target[-1] == -(10**6)
    assert source[source < 0][:-1].tolist() == target[target < 0][:-1].tolist() == list(sentinels[:spans])
    spans_of = {int(part[0]): part[1:].tolist() for part in np.split(target[:-1], np.flatnonzero(target[:-1] < 0)[1:])}
    restored = [token for name in source[:-1].tolist() for token in (spans_of[name] if name < 0 else [name])]
    assert restored == ids.tolist()


def test_the_papers_figure():
    noise = np.zeros(11, bool)
    noise[[2, 3, 8]] = True
    source, target = corrupt(np.arange(11), noise, (100, 101, 102), 99)
    assert source.tolist() == [0, 1, 100, 4, 5, 6, 7, 101, 9, 10, 99]
    assert target.tolist() == [100, 2, 3, 101, 8, 99]


def test_every_way_to_cut_is_as_likely():
    """Of 9 tokens 4 are missing in 2 spans: 3 ways to cut the missing ones, 4 to cut the others."""
    generator = np.random.default_rng(0)
    seen: dict[bytes, int] = {}
    for _ in range(6000):
        noise = noise_mask(9, 0.45, 2.0, generator)
        seen[noise.tobytes()] = seen.get(noise.tobytes(), 0) + 1
    assert len(seen) == 12
    assert abs(np.array([*seen.values()]) - 500).max() < 5 * (6000 / 12 * 11 / 12) ** 0.5  # five standard deviations


def lengths_of(length, rate=0.15, mean_span=3.0):
    """Tokens of source and target of a text; each ends with one that says so."""
    tokens, spans = missing(length, rate, mean_span)
    return length - tokens + spans + 1, tokens + spans + 1


def test_t5s_own_lengths():
    """Published with T5: 568 tokens become 512 and 114."""
    assert lengths_of(568) == (512, 114)


def test_rows_are_documents_or_one_stream(tmp_path):
    documents = some_documents((30, 11, 2, 1), END)
    apart = OBJECTIVE.examples(batch_of(tmp_path / "d", documents, 64), 0)
    assert sorted(apart.attention_mask.sum(1).tolist()) == sorted(lengths_of(n)[0] for n in (30, 11, 2))
    assert not (apart.ids[:, :-2] == END).logical_and(apart.ids[:, 1:-1] == END).any()  # one end for each
    stream = SpanCorruption(SENTINELS, END, apart=False).examples(
        batch_of(tmp_path / "s", documents, 24, mode="concatenate"), 0
    )
    assert stream.attention_mask.sum(1).tolist() == [lengths_of(24)[0], lengths_of(23)[0]]  # the last has its end


def test_the_loss_is_that_of_transformers(tmp_path):
    roles = {"eos_token": "<|end|>"}
    model = new_model(CONFIG, "t5")
    assemble(CONFIG, model.state_dict(), byte_tokenizer(roles)).save(tmp_path / "model")
    theirs = T5ForConditionalGeneration.from_pretrained(tmp_path / "model")
    examples = OBJECTIVE.examples(a_batch(tmp_path / "d"), 0)
    loss = OBJECTIVE.losses(model, examples)["rewritten"]
    labels = examples.targets.masked_fill(~examples.mask, -100)
    theirs.config.decoder_start_token_id = theirs.config.pad_token_id = 0
    expected = theirs.eval()(examples.ids, attention_mask=examples.attention_mask.long(), labels=labels).loss
    torch.testing.assert_close(loss.sum / loss.count, expected)


@pytest.mark.slow
def test_it_learns(text_dataset, tmp_path):
    """Below the best guess that looks at nothing, even if sentinels and ends cost it nothing."""
    config = t5(321, 32, 1, 4, 64, 16, context_length=64)
    objective = SpanCorruption(SENTINELS, END, rate=0.5, mean_span=5)
    log = learn(config, "t5", objective, text_dataset, tmp_path / "run", rate=1e-2, steps=70)
    tokens, _ = missing(32, 0.5, 5)
    assert log[0]["loss"] > 5.3
    assert log[-1]["loss"] < unigram_nats(TokenDataset(text_dataset)) * tokens / lengths_of(32, 0.5, 5)[1] - 0.5


def test_sentinels_are_found_by_their_names():
    names = {role: f"<extra_id_{n}>" for role, n in (("pad_token", 10), ("eos_token", 0), ("unk_token", 2))}
    assert sentinels_of(byte_tokenizer(names)) == (257, 258, 256)
    with pytest.raises(ValueError, match="no <extra_id_0>"):
        sentinels_of(byte_tokenizer({"eos_token": "<|end|>"}))


def test_what_cannot_be_is_refused(tmp_path):
    batch = a_batch(tmp_path / "d", (31,))
    with pytest.raises(ValueError, match="2 spans and there are 1 sentinels"):
        SpanCorruption((300,), END).examples(batch, 0)
    with pytest.raises(ValueError, match="each another"):
        SpanCorruption((300, 300), END)
    for rate in (0.0, 15.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            SpanCorruption(SENTINELS, END, rate=rate)
    with pytest.raises(ValueError, match="mean_span must be 1 or more"):
        SpanCorruption(SENTINELS, END, mean_span=0.5)
    with pytest.raises(TypeError, match="needs both stacks"):
        OBJECTIVE.losses(new_checkpoint().model, OBJECTIVE.examples(batch, 0))
    with pytest.raises(ValueError, match="smaller length"):
        OBJECTIVE.losses(new_model(t5(321, 32, 1, 2, 64, 16, context_length=16), "t5"), OBJECTIVE.examples(batch, 0))


def test_a_batch_in_which_nothing_can_be_asked_is_left_out_of_a_validation(tmp_path):
    model = new_model(CONFIG, "t5")
    asked, empty = a_batch(tmp_path / "d"), a_batch(tmp_path / "e", (1, 1))
    assert count_rows(OBJECTIVE.examples(empty, 0)) == 0
    expected = validate(model, OBJECTIVE, [asked, asked])
    found = validate(model, OBJECTIVE, [empty, asked, asked])
    assert (found.targets, found.total.value) == (expected.targets, expected.total.value)
