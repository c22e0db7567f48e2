"""What `coverage` leaves without a token is counted, named and told."""

from collections import Counter

import pytest

from kit.tables import for_each
from lmworks.tokenizer.config import BpeConfig, UnigramConfig, WordPieceConfig
from lmworks.tokenizer.training.initial_symbols import spell_characters
from lmworks.tokenizer.training.trainers import train_bpe, train_unigram, train_wordpiece
from lmworks.tokenizer.training.word_counts import WordCounts

TEXT = "the cat sat on the mat and went on and on. " * 300
RARE = "77 7 ü \x07"  # three different characters: 7 three times, the others once
CASES = {
    "bpe": (train_bpe, BpeConfig(vocabulary_size=300, words="metaspace", coverage=0.9995), "the tokens of their bytes"),
    "bpe without bytes": (
        train_bpe,
        BpeConfig(vocabulary_size=100, words="metaspace", coverage=0.9995, byte_fallback=False),
        "They become <unk>",
    ),
    "unigram": (train_unigram, UnigramConfig(vocabulary_size=100, coverage=0.9995), "They become <unk>"),
    "unigram with bytes": (
        train_unigram,
        UnigramConfig(vocabulary_size=400, coverage=0.9995, byte_fallback=True),
        "the tokens of their bytes",
    ),
}


@for_each("case", CASES)
def test_what_is_left_out_is_counted_and_named(case):
    train, config, becomes = CASES[case]
    found = train([TEXT, RARE], config).uncovered
    characters = Counter((" " + TEXT + " " + RARE).replace(" ", ""))
    assert found.frequent == (("7", 3), ("\x07", 1), ("ü", 1))
    assert (found.characters, found.occurrences) == (3, 5)
    spaces = (TEXT + RARE).count(" ") + 2  # one goes before each text
    assert found.share == pytest.approx(5 / (characters.total() + spaces), rel=1e-12)
    assert found.warning.startswith(
        "3 different characters have no token, 0.039 % of the texts: 7 (3), U+0007 (1), ü (1)."
    )
    assert becomes in found.warning and "Raise coverage" in found.warning


def test_words_of_wordpiece_become_unknown_as_a_whole():
    trained = train_wordpiece([TEXT, "in 1984"], WordPieceConfig(vocabulary_size=100, coverage=0.9995))
    assert dict(trained.uncovered.frequent) == {"i": 1, "4": 1, "8": 1, "9": 1}
    assert "A word that holds one of them becomes [UNK] as a whole." in trained.uncovered.warning
    assert trained.tokenizer.encode("1984") == [trained.tokenizer.special_ids["[UNK]"]]


@for_each("case", CASES)
def test_nothing_is_said_where_every_character_has_a_token(case):
    train, config, _ = CASES[case]
    found = train([TEXT], config).uncovered
    assert (found.characters, found.occurrences, found.share, found.frequent, found.warning) == (0, 0, 0.0, (), "")


def test_bytes_leave_nothing_out():
    assert train_bpe([TEXT, RARE], BpeConfig(vocabulary_size=300)).uncovered.warning == ""


def test_the_most_frequent_are_named_and_the_rest_is_counted():
    letters = [chr(0x400 + number) for number in range(14)]
    words = {letter.encode(): 14 - number for number, letter in enumerate(letters)} | {b"a": 10**6}
    found = spell_characters(WordCounts.of(words), 0.9999).uncovered
    expected = [(letter, 14 - number) for number, letter in enumerate(letters)]
    left = 14 - sum(1 for character in spell_characters(WordCounts.of(words), 0.9999).alphabet if character != "a")
    assert found.characters == left > 10 and found.frequent == tuple(expected[14 - left :][:10])
    assert f"and {left - 10} more. " in found.warning


def test_one_character_is_one():
    found = spell_characters(WordCounts.of({b"a": 10**6, b"b": 1}), 0.999).uncovered
    assert found.warning.startswith("1 character has no token, 0.0001 % of the texts: b (1).")
