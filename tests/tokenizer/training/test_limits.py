"""Settings beyond all reason are refused, or end where there is nothing left to learn; they never wrap."""

import dataclasses
import inspect
import textwrap

import numpy as np
import pytest

from kit.tables import for_each
from lmworks.tokenizer.config import MOST, BpeConfig, UnigramConfig, WordPieceConfig
from lmworks.tokenizer.training.initial_symbols import spell_bytes
from lmworks.tokenizer.training.merges import learn_merges
from lmworks.tokenizer.training.trainers import train_bpe, train_unigram, train_wordpiece
from lmworks.tokenizer.training.word_counts import WordCounts

TEXT = inspect.getsource(textwrap)
NUMBERS = [
    (config, field.name)
    for config in (BpeConfig, WordPieceConfig, UnigramConfig)
    for field in dataclasses.fields(config)
    if isinstance(field.default, int) and not isinstance(field.default, bool)
]


@for_each(("config", "name"), NUMBERS)
@for_each("value", [MOST + 1, 2**31, 2**32 + 300, 10**10, 2**63, 2**64 + 300])
def test_numbers_above_the_limit_are_refused(config, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must lie between \d+ and 1,000,000,000, got {value}$"):
        config(**{name: value})


@for_each(("config", "name"), NUMBERS)
def test_numbers_below_the_least_are_refused(config, name):
    with pytest.raises(ValueError, match=f"^{name} must lie between"):
        config(**{name: -1})


@for_each(
    ("train", "config", "reasonable"),
    [
        (train_bpe, BpeConfig(vocabulary_size=MOST, max_token_length=MOST), BpeConfig(vocabulary_size=50_000)),
        (
            train_wordpiece,
            WordPieceConfig(vocabulary_size=MOST, max_token_length=MOST),
            WordPieceConfig(vocabulary_size=50_000),
        ),
        (
            train_unigram,
            UnigramConfig(vocabulary_size=MOST, seed_size=MOST, max_piece_length=MOST),
            UnigramConfig(vocabulary_size=50_000, max_piece_length=1_000),
        ),
    ],
)
def test_an_absurd_size_ends_where_nothing_is_left_to_learn(train, config, reasonable):
    steps = []
    trained = train([TEXT], config, lambda done, total, unit: steps.append((done, total, unit)))
    assert trained.tokenizer.hash == train([TEXT], reasonable).tokenizer.hash
    assert trained.tokenizer.vocabulary_size < 50_000
    assert all(total is None or 0 <= total < 20 * len(TEXT) for _, total, _ in steps)


@for_each("compiled", [True, False])
def test_what_is_asked_of_the_learner_beyond_the_words_means_no_more(monkeypatch, compiled):
    if not compiled:
        monkeypatch.setattr("lmworks.tokenizer.library.load", lambda: None)
    words = WordCounts.of({b"abab": 3, b"ab": 2})
    expected = learn_merges(spell_bytes(words), 300)
    found = learn_merges(spell_bytes(words), 10**12, longest=2**32 + 1)
    assert found.tokens == expected.tokens and len(found) == 2
    np.testing.assert_array_equal(found.counts, [8, 3])
    assert len(learn_merges(spell_bytes(words), 300, least=2**64 + 1)) == 0
