"""BART's denoising: what each noise keeps, its rates, and BART's own loss."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BartForConditionalGeneration

from byte_tokenizer import byte_tokenizer
from kit.tables import for_each
from lmworks.data.token_dataset import TokenDataset
from lmworks.model.checkpoint import assemble
from lmworks.model.presets import bart
from lmworks.train.objectives.bart_denoising import (
    Denoising,
    SentencePermutation,
    TextInfilling,
    sentence_ends,
)
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

END, BEGIN, MASK = 256, 257, 258
STOP = np.zeros(259, bool)
STOP[:32] = True
NOISE = (SentencePermutation(STOP), TextInfilling())
OBJECTIVE = Denoising(NOISE, MASK, BEGIN, END)
CONFIG = bart(259, 32, 2, 2, 64, context_length=64)
TEXTS = st.lists(st.integers(0, 40), min_size=1, max_size=80).map(lambda ids: np.array(ids, np.int64))
SEEDS = st.integers(0, 2**40).map(np.random.default_rng)
RATES = st.floats(0.01, 0.99)


def a_batch(folder, lengths=(7, 20, 3, 12, 9, 15, 1, 18)):
    return batch_of(folder, some_documents(lengths, END), 32)


class TestInvariances:
    @for_each("apart", [True, False])
    def test_parts_and_order(self, apart, tmp_path):
        objective = Denoising(NOISE, MASK, BEGIN, END, apart=apart)
        check_parts(new_model(CONFIG, "bart"), objective, a_batch(tmp_path / "d"))

    def test_padding(self, tmp_path):
        check_padding(new_model(CONFIG, "bart"), OBJECTIVE, a_batch(tmp_path / "d"))

    def test_documents_without_text_ask_nothing(self, tmp_path):
        check_nothing(new_model(CONFIG, "bart"), OBJECTIVE, batch_of(tmp_path / "d", [np.array([END])] * 2, 4))


@settings(deadline=None)
@given(st.integers(1, 100), RATES, st.floats(0.3, 8), SEEDS)
def test_infilling_hides_its_share_behind_masks_and_keeps_the_rest_in_order(length, rate, mean, generator):
    noisy = TextInfilling(rate, mean)(np.arange(length), -1, generator)
    left = noisy[noisy >= 0]
    assert len(left) == length - math.ceil(rate * length)
    assert (np.diff(left) > 0).all()
    missing = np.diff(np.concatenate([[-1], left, [length]])) - 1  # between each two tokens that are left
    is_mask = np.concatenate([noisy < 0, [False]])
    masks = np.diff(np.concatenate([[-1], np.flatnonzero(~is_mask)])) - 1
    assert (masks[missing > 0] > 0).all()  # what is missing has a mask in its place


def test_spans_are_poisson_and_some_hide_nothing():
    """Among many spans the one that was cut short does not count; those beside each other are told by their number."""
    generator, length, rounds = np.random.default_rng(0), 2000, 20
    spans, empty = 0, 0
    for _ in range(rounds):
        noisy = TextInfilling(0.3, 3.0)(np.arange(length), -1, generator)
        spans += (noisy < 0).sum()
        left = np.flatnonzero(noisy >= 0)
        gaps, missing = np.diff(left) - 1, np.diff(noisy[left]) - 1
        empty += ((gaps == 1) & (missing == 0)).sum() / (gaps == 1).sum()
    wanted = rounds * 600 / 3
    assert abs(spans - wanted) < 5 * (wanted / 3) ** 0.5 + rounds  # a renewal process: variance n σ² / μ³ = spans / 3
    assert abs(empty / rounds - math.exp(-3)) < 5 * (0.05 * 0.95 / (rounds * 150)) ** 0.5


def test_a_span_may_stand_at_either_edge():
    generator = np.random.default_rng(0)
    noisy = [TextInfilling(0.3)(np.arange(6), -1, generator) for _ in range(200)]
    assert any(text[0] < 0 for text in noisy) and any(text[-1] < 0 for text in noisy)


@settings(deadline=None)
@given(TEXTS, SEEDS)
def test_sentences_change_places_and_stay_whole(ids, generator):
    def sentences(text):
        return [part.tolist() for part in np.split(text, np.flatnonzero(STOP[text[:-1]]) + 1)]

    after = SentencePermutation(STOP)(ids, MASK, generator)
    assert sorted(after.tolist()) == sorted(ids.tolist())
    if STOP[ids[-1]]:  # without a stop at its end the last sentence runs into the next one
        assert sorted(sentences(after)) == sorted(sentences(ids))


def test_all_orders_of_sentences_are_as_likely():
    generator, text = np.random.default_rng(1), np.array([1, 2, 3])
    orders = [tuple(SentencePermutation(STOP)(text, MASK, generator)) for _ in range(3000)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert max(abs(count - 500) for count in counts) < 5 * (3000 / 6 * 5 / 6) ** 0.5  # five standard deviations


def test_the_target_is_the_whole_text_and_the_decoder_reads_it_one_place_later(tmp_path):
    documents = some_documents((9, 14), END)
    examples = OBJECTIVE.examples(batch_of(tmp_path / "d", documents, 32), 0)
    written = {tuple(row[real].tolist()) for row, real in zip(examples.targets, examples.mask, strict=True)}
    assert written == {(BEGIN, *document.tolist()) for document in documents}
    for ids, target, real in zip(examples.decoder_ids, examples.targets, examples.mask, strict=True):
        assert ids[real].tolist() == [END, *target[real].tolist()[:-1]]
    read = [row[real].tolist() for row, real in zip(examples.ids, examples.attention_mask, strict=True)]
    assert all(row[0] == BEGIN and row[-1] == END and MASK in row for row in read)


def test_sentence_ends_of_a_tokenizer():
    tokenizer = byte_tokenizer({"eos_token": "<|end|>", "mask_token": "MASK!"})  # no special token ends a sentence
    assert {tokenizer.decode([index]) for index in np.flatnonzero(sentence_ends(tokenizer))} == {".", "!", "?"}


def test_the_loss_is_that_of_transformers(tmp_path):
    tokenizer = byte_tokenizer({"eos_token": "<|end|>", "bos_token": "<s>", "mask_token": "[MASK]"})
    model = new_model(CONFIG, "bart")
    assemble(CONFIG, model.state_dict(), tokenizer).save(tmp_path / "model")
    theirs = BartForConditionalGeneration.from_pretrained(tmp_path / "model").eval()
    examples = OBJECTIVE.examples(a_batch(tmp_path / "d"), 0)
    loss = OBJECTIVE.losses(model, examples)["rewritten"]
    theirs.config.decoder_start_token_id = END
    labels = examples.targets.masked_fill(~examples.mask, -100)
    theirs.config.pad_token_id = 0
    expected = theirs(examples.ids, attention_mask=examples.attention_mask.long(), labels=labels).loss
    torch.testing.assert_close(loss.sum / loss.count, expected)


@pytest.mark.slow
def test_it_learns(text_dataset, tmp_path):
    config = bart(259, 64, 1, 4, 128, context_length=64)
    objective = Denoising((TextInfilling(),), MASK, None, END)
    log = learn(config, "transformer", objective, text_dataset, tmp_path / "run", rate=1e-2, steps=70)
    assert log[0]["loss"] > 5.3
    assert np.mean([line["loss"] for line in log[-5:]]) < unigram_nats(TokenDataset(text_dataset)) - 0.5


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(ValueError, match="name a noise"):
        Denoising((), MASK, BEGIN, END)
    with pytest.raises(ValueError, match="must be another"):
        Denoising(NOISE, END, BEGIN, END)
    with pytest.raises(ValueError, match="between 0 and 1"):
        TextInfilling(30)
    with pytest.raises(ValueError, match="above 0"):
        TextInfilling(mean_span=0)
    with pytest.raises(TypeError, match="needs both stacks"):
        OBJECTIVE.losses(new_checkpoint().model, OBJECTIVE.examples(a_batch(tmp_path / "d"), 0))
