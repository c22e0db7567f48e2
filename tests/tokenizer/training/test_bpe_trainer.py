"""Trained vocabularies: `tokenizers` learns the same from the same texts, and encoding with them loses nothing."""

import argparse
import inspect
import json
import textwrap

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, trainers

from kit.tables import for_each
from lmworks.tokenizer.config import BpeConfig
from lmworks.tokenizer.pre_tokenizer import WordRule
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.training.trainers import train_bpe

TEXTS = [inspect.getsource(module) for module in (argparse, inspect, textwrap)]
RULES = [("gpt4", "three"), ("gpt4", "run"), ("gpt2", "run"), ("gpt2", "one")]


def their_merges(texts, rule: WordRule, size: int) -> list[list[str]]:
    theirs = tokenizers.Tokenizer(models.BPE())
    theirs.pre_tokenizer = rule.pre_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    theirs.train_from_iterator(texts, trainer)
    return json.loads(theirs.to_str())["model"]["merges"]


@for_each(("words", "digits"), RULES)
def test_tokenizers_learns_the_same(words, digits):
    config = BpeConfig(vocabulary_size=2000, words=words, digits=digits)
    trained = train_bpe(TEXTS, config)
    assert trained.tokenizer.vocabulary_size == 2000
    assert [list(pair) for pair in trained.merges.pairs()] == their_merges(TEXTS, WordRule(words, digits), 2000)


def test_the_order_of_texts_and_the_missing_compiler_change_nothing(monkeypatch):
    config = BpeConfig(vocabulary_size=700)
    first = train_bpe(TEXTS, config).tokenizer
    assert train_bpe(reversed(TEXTS), config).tokenizer.hash == first.hash
    monkeypatch.setattr("lmworks.tokenizer.library.load", lambda: None)
    assert train_bpe(TEXTS, config).tokenizer.hash == first.hash


CONFIGS = [
    BpeConfig(vocabulary_size=600, words="gpt4"),
    BpeConfig(vocabulary_size=600, words="gpt2", digits="run"),
    BpeConfig(vocabulary_size=600, words="none"),
    BpeConfig(vocabulary_size=600, words="metaspace", digits="one"),
]


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda config: config.words)
def tokenizer(request) -> Tokenizer:
    return train_bpe([text[:20_000] for text in TEXTS], request.param).tokenizer


@given(text=st.text())
def test_encoding_loses_nothing(tokenizer, text):
    decoded = tokenizer.decode(tokenizer.encode(text), skip_special=False)
    if "▁" not in text:  # which "metaspace" takes for a space
        expected = text
        if tokenizer.roles.get("unk_token") and text.startswith(" "):
            expected = text[1:]  # a first word has its space with or without one
        assert decoded == expected


def test_special_tokens_come_first_and_text_never_becomes_one(tokenizer):
    assert tokenizer.special_ids["<|endoftext|>"] == 0 == tokenizer.eos_id
    assert 0 not in tokenizer.encode("<|endoftext|>" * 3)


@for_each("words", ["none", "metaspace"])
def test_a_special_token_is_not_learnt_from_texts_full_of_it(words):
    config = BpeConfig(vocabulary_size=400, words=words)
    trained = train_bpe(["<|endoftext|>"] * 50, config)
    assert trained.merges.tokens.count("<|endoftext|>") == 0
    assert trained.tokenizer.special_ids["<|endoftext|>"] == 0
    assert trained.tokenizer.decode(trained.tokenizer.encode("<|endoftext|>")) == "<|endoftext|>"


def test_metaspace_tokens_begin_words_and_bytes_stand_in_for_rare_characters():
    texts = ["der hund und der hahn " * 20 + "ß 東"]
    config = BpeConfig(vocabulary_size=290, words="metaspace", coverage=0.99)
    tokenizer = train_bpe(texts, config).tokenizer
    names = [tokenizer.backend.id_to_token(token) for token in tokenizer.encode("der hahn 東")]
    assert names[0] == "▁der" and names[-3:] == ["<0xE6>", "<0x9D>", "<0xB1>"]
    without = train_bpe(texts, BpeConfig(vocabulary_size=40, words="metaspace", coverage=0.99, byte_fallback=False))
    assert without.tokenizer.backend.id_to_token(without.tokenizer.encode("東")[-1]) == "<unk>"


def test_normal_forms():
    composed = train_bpe(["Z\u0075\u0308rich " * 9], BpeConfig(vocabulary_size=300, normalise="NFC")).tokenizer
    assert composed.encode("Zu\u0308rich") == composed.encode("Zürich")
    assert composed.decode(composed.encode("Zu\u0308rich")) == "Zürich"


def test_a_saved_vocabulary_is_read_back(tmp_path):
    trained = train_bpe(TEXTS, BpeConfig(vocabulary_size=500))
    trained.tokenizer.save(tmp_path)
    assert Tokenizer.load(tmp_path).hash == trained.tokenizer.hash
    lines = trained.trace().splitlines()
    assert len(lines) == len(trained.merges) + 1
    token, left, right, count = map(int, lines[1].split("\t"))
    name = trained.tokenizer.backend.id_to_token
    assert name(token) == str(name(left)) + str(name(right)) and token == 257
    assert count == trained.merges.counts[0]


def test_fewer_tokens_than_asked_for_are_no_error_and_no_text_is_one():
    trained = train_bpe(["ab ab"], BpeConfig(vocabulary_size=1000))
    assert trained.tokenizer.vocabulary_size == 258
    with pytest.raises(ValueError, match="every text is empty"):
        train_bpe(["", ""])
    with pytest.raises(ValueError, match="give a list of strings"):
        train_bpe("a text")


@for_each(
    ("settings", "message"),
    [
        ({"vocabulary_size": 256}, "257"),
        ({"words": "gpt5"}, "gpt2, gpt4"),
        ({"coverage": 0.0}, "coverage"),
        ({"special_tokens": ()}, "ends a text"),
        ({"special_tokens": ("a", "a")}, "different"),
        ({"special_tokens": ("!",)}, "two letters"),
        ({"special_tokens": ("<0x41>",), "words": "metaspace"}, "stands for a byte"),
        ({"min_frequency": 0}, "min_frequency must lie between 1 and"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        BpeConfig(**settings)


def test_more_characters_than_tokens_are_refused():
    texts = ["".join(map(chr, range(0x4E00, 0x4F00)))]
    with pytest.raises(ValueError, match="lower coverage"):
        train_bpe(texts, BpeConfig(vocabulary_size=300, words="metaspace", coverage=1.0))


def test_the_unknown_token_may_stand_where_one_wants_it():
    special = ("<unk>", "<s>", "</s>")
    config = BpeConfig(vocabulary_size=400, words="metaspace", special_tokens=special)
    tokenizer = train_bpe(TEXTS[:1], config).tokenizer
    assert [tokenizer.special_ids[token] for token in special] == [0, 1, 2]
    assert sorted(tokenizer.backend.get_vocab().values()) == list(range(tokenizer.vocabulary_size))
