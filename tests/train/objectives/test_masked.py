"""Masked language modelling: rates, words, and BERT's own loss."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertForMaskedLM

from byte_tokenizer import byte_tokenizer
from kit.tables import for_each
from lmworks.data.token_dataset import TokenDataset
from lmworks.model.checkpoint import assemble
from lmworks.model.config import MaskedLanguageModelHead, Norm
from lmworks.model.presets import bert
from lmworks.tokenizer import BpeConfig, WordPieceConfig, train_bpe, train_wordpiece
from lmworks.train.objectives.corruption_vocabulary import Vocabulary, Words, words_of
from lmworks.train.objectives.masked import MaskedLanguageModel, choose
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

END, MASK = 256, 257
HEAD = MaskedLanguageModelHead("gelu", Norm("layer", 1e-12))
CONFIG = bert(258, 32, 2, 2, 64, context_length=64, head=HEAD)
TEXT = np.arange(258) < 256
VOCABULARY = Vocabulary(MASK, TEXT)


def a_batch(folder, lengths=(7, 20, 3, 12, 9, 15, 1, 18), length=32):
    return batch_of(folder, some_documents(lengths, END), length)


class TestInvariances:
    def test_parts_and_order(self, tmp_path):
        check_parts(new_model(CONFIG, "bert"), MaskedLanguageModel(VOCABULARY), a_batch(tmp_path / "d"))

    def test_padding(self, tmp_path):
        check_padding(new_model(CONFIG, "bert"), MaskedLanguageModel(VOCABULARY), a_batch(tmp_path / "d"))

    @for_each("apart", [True, False])
    def test_documents_see_each_other_only_where_they_may(self, apart, tmp_path):
        """A token of one document is changed: the loss of the others stays, if they are apart."""
        model, objective = new_model(CONFIG, "bert"), MaskedLanguageModel(VOCABULARY, apart=apart)
        examples = objective.examples(batch_of(tmp_path / "d", some_documents((9, 12)), 21), seed=0)
        examples.mask[:, 12:] = False  # targets of the longer one alone, which is packed first
        before = objective.losses(model, examples)["masked"].sum
        examples.ids[0, -1] += 1
        after = objective.losses(model, examples)["masked"].sum
        assert examples.mask.any()
        assert torch.equal(before, after) == apart

    def test_documents_without_text_ask_nothing(self, tmp_path):
        check_nothing(
            new_model(CONFIG, "bert"),
            MaskedLanguageModel(VOCABULARY),
            batch_of(tmp_path / "d", [np.array([END])] * 2, 4),
        )


@settings(deadline=None)
@given(st.integers(1, 300), st.floats(0.01, 0.9), st.integers(0, 2**63 - 1))
def test_the_number_of_chosen_tokens_is_exact_and_no_special_one_is_among_them(length, rate, seed):
    generator = np.random.default_rng(seed)
    ids = generator.integers(250, 258, length)
    chosen = choose(ids, np.zeros(length, np.int64), VOCABULARY, rate, generator)
    text = int(TEXT[ids].sum())
    assert chosen.sum() == (max(round(rate * text), 1) if text else 0)
    assert TEXT[ids[chosen]].all()


def test_what_is_hidden_can_be_put_back_and_all_else_stands(tmp_path):
    batch = a_batch(tmp_path / "d")
    examples = MaskedLanguageModel(VOCABULARY).examples(batch, seed=5)
    assert torch.equal(torch.where(examples.mask, examples.targets, examples.ids), batch.ids)
    assert not (examples.mask & (batch.documents < 0)).any()


def test_eight_in_ten_are_hidden_one_is_another_and_one_stays(tmp_path):
    batch = batch_of(tmp_path / "d", some_documents([500] * 100), 500)
    examples = MaskedLanguageModel(VOCABULARY).examples(batch, seed=0)
    seen, true = examples.ids[examples.mask], examples.targets[examples.mask]
    n = len(seen)
    assert n == 100 * 75
    hidden, kept = (seen == MASK).sum().item(), (seen == true).sum().item()
    # Five standard deviations of a binomial; one in 256 of those drawn at random is what it was.
    assert abs(hidden - 0.8 * n) < 5 * (n * 0.8 * 0.2) ** 0.5
    assert abs(kept - (0.1 + 0.1 / 256) * n) < 5 * (n * 0.1 * 0.9) ** 0.5
    others = seen[(seen != MASK) & (seen != true)]
    assert len(others.unique()) > 200 and TEXT[others].all()
    places = examples.mask.float().mean(dim=0)  # each place is as likely as any other
    assert (places - 0.15).abs().max() < 5 * (0.15 * 0.85 / 100) ** 0.5


def test_every_visit_hides_anew_or_in_one_of_the_fixed_ways(tmp_path):
    batch = a_batch(tmp_path / "d")

    def ways(objective):
        return {objective.examples(batch, seed).ids[0].numpy().tobytes() for seed in range(40)}

    assert len(ways(MaskedLanguageModel(VOCABULARY))) == 40
    assert len(ways(MaskedLanguageModel(VOCABULARY, duplicates=3))) == 3
    assert len(ways(MaskedLanguageModel(VOCABULARY, duplicates=1))) == 1


class TestWholeWords:
    TEXTS = ("unbelievable transformations happen, and unbelievably so", "it was\nnot unhappy at all!")

    def check(self, tokenizer, expected):
        for text, words in zip(self.TEXTS, expected, strict=True):
            ids = np.array(tokenizer.encode(text))
            numbers = words_of(tokenizer).numbers(ids, np.zeros_like(ids))
            found = [tokenizer.decode(ids[numbers == word].tolist()).strip() for word in range(numbers[-1] + 1)]
            assert [word for word in found if word] == words

    def test_wordpiece(self):
        tokenizer = train_wordpiece(list(self.TEXTS), WordPieceConfig(vocabulary_size=60)).tokenizer
        assert len(tokenizer.encode("unbelievable")) > 1
        self.check(
            tokenizer,
            [
                ["unbelievable", "transformations", "happen", ",", "and", "unbelievably", "so"],
                ["it", "was", "not", "unhappy", "at", "all", "!"],
            ],
        )

    def test_byte_level(self):
        tokenizer = train_bpe(list(self.TEXTS), BpeConfig(vocabulary_size=270)).tokenizer
        assert len(tokenizer.encode("unbelievable")) > 1
        self.check(
            tokenizer,
            [
                ["unbelievable", "transformations", "happen,", "and", "unbelievably", "so"],
                ["it", "was", "not", "unhappy", "at", "all!"],
            ],
        )

    @settings(deadline=None)
    @given(st.lists(st.integers(1, 6), min_size=1, max_size=60), st.floats(0.05, 0.6), st.integers(0, 2**32))
    def test_words_are_chosen_whole_and_as_many_as_fit(self, sizes, rate, seed):
        """Token 0 begins a word, token 1 continues one."""
        words = Words(np.array([True, False, True]), np.array([False, False, True]))
        ids = np.concatenate([[0, *[1] * (size - 1)] for size in sizes])
        vocabulary = Vocabulary(2, np.array([True, True, False]), words)
        chosen = choose(ids, np.zeros_like(ids), vocabulary, rate, np.random.default_rng(seed))
        parts = np.split(chosen, np.flatnonzero(ids == 0)[1:])
        assert all(part.all() or not part.any() for part in parts)
        left = [len(part) for part in parts if not part.any()]
        wanted, total = max(round(rate * len(ids)), 1), int(chosen.sum())
        if total <= wanted:
            assert all(total + size > wanted for size in left)
        else:
            assert sum(part.any() for part in parts) == 1

    def test_no_word_reaches_into_another_document(self):
        words = Words(np.array([True, False]), np.array([False, False]))
        numbers = words.numbers(np.array([1, 1, 1, 0, 1, 1]), np.array([4, 4, 5, 5, 5, 6]))
        assert numbers.tolist() == [0, 0, 1, 2, 2, 3]


def test_the_loss_is_that_of_transformers(tmp_path):
    tokenizer = byte_tokenizer({"eos_token": "<|end|>", "mask_token": "[MASK]"})
    assert Vocabulary.of(tokenizer).mask == MASK
    assert np.array_equal(Vocabulary.of(tokenizer).text, TEXT)
    model = new_model(CONFIG, "bert")
    assemble(CONFIG, model.state_dict(), tokenizer).save(tmp_path / "model")
    theirs = BertForMaskedLM.from_pretrained(tmp_path / "model")
    examples = MaskedLanguageModel(VOCABULARY).examples(batch_of(tmp_path / "d", some_documents([30, 20]), 30), seed=1)
    loss = MaskedLanguageModel(VOCABULARY).losses(model, examples)["masked"]
    expected = theirs(
        examples.ids,
        attention_mask=(examples.documents >= 0).long(),
        labels=examples.targets.masked_fill(~examples.mask, -100),
    ).loss
    torch.testing.assert_close(loss.sum / loss.count, expected)


def test_it_learns_from_both_sides(text_dataset, tmp_path):
    config = bert(258, 64, 1, 4, 128, context_length=64, head=HEAD)
    log = learn(config, "transformer", MaskedLanguageModel(VOCABULARY, rate=0.3), text_dataset, tmp_path / "run")
    assert log[0]["loss"] > 5.3
    assert np.mean([line["loss"] for line in log[-5:]]) < unigram_nats(TokenDataset(text_dataset)) - 0.15


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(ValueError, match="between 0 and 1"):
        MaskedLanguageModel(VOCABULARY, rate=15)
    with pytest.raises(ValueError, match="shares of the chosen"):
        MaskedLanguageModel(VOCABULARY, masked=0.8, random=0.3)
    with pytest.raises(ValueError, match="1 or more"):
        MaskedLanguageModel(VOCABULARY, duplicates=0)
    with pytest.raises(ValueError, match="no mask_token"):
        Vocabulary.of(byte_tokenizer({"eos_token": "<|end|>"}))
    with pytest.raises(ValueError, match="outside the vocabulary"):
        Vocabulary(258, TEXT)
    objective = MaskedLanguageModel(VOCABULARY)
    with pytest.raises(TypeError, match="needs an encoder"):
        objective.losses(new_checkpoint().model, objective.examples(a_batch(tmp_path / "d"), 0))
