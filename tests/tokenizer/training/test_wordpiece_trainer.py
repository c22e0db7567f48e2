"""WordPiece: `tokenizers` learns the same pieces where no two pairs are equally frequent, and cuts with them."""

import inspect
import json
import textwrap

import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from kit.tables import for_each
from lmworks.tokenizer.config import WordPieceConfig
from lmworks.tokenizer.training.trainers import train_wordpiece

TEXTS = [inspect.getsource(textwrap), "Ein süßer Hund, zwei 狗!\tdrei"]


def their_vocabulary(texts, size: int, lowercase: bool) -> set[str]:
    theirs = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))  # pyright: ignore[reportCallIssue]
    theirs.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    theirs.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = list(WordPieceConfig().special_tokens)
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, min_frequency=2, special_tokens=special, show_progress=False, limit_alphabet=100_000
    )
    theirs.train_from_iterator(texts, trainer)
    return set(json.loads(theirs.to_str())["model"]["vocab"])


@for_each("lowercase", [True, False])
def test_tokenizers_learns_the_same_pieces(lowercase):
    """Of equally frequent pairs theirs takes one by ids that change from run to run: the end of the list may differ."""
    config = WordPieceConfig(vocabulary_size=500, lowercase=lowercase, coverage=1.0)
    ours = set(train_wordpiece(TEXTS, config).tokenizer.backend.get_vocab())
    theirs = their_vocabulary(TEXTS, 500, lowercase)
    assert len(ours) == len(theirs) == 500
    assert len(ours & theirs) > 475


def test_without_ties_the_vocabulary_is_theirs():
    # Every pair has a count of its own: words of two letters, the n-th of them n + 2 times.
    letters = "abcdefgh"
    texts = [f"{a}{b} " * (2 + 9 * i + j) for i, a in enumerate(letters) for j, b in enumerate(letters)]
    config = WordPieceConfig(vocabulary_size=5 + 16 + 30, coverage=1.0)
    assert set(train_wordpiece(texts, config).tokenizer.backend.get_vocab()) == their_vocabulary(texts, 51, True)


def test_words_are_framed_lowercased_and_cut_by_the_longest_piece():
    config = WordPieceConfig(vocabulary_size=60, coverage=1.0)
    tokenizer = train_wordpiece(["unaffable unaware affable un aware "] * 5, config).tokenizer
    names = [tokenizer.backend.id_to_token(token) for token in tokenizer.encode("Unáffable", special=True)]
    assert names[0] == "[CLS]" and names[-1] == "[SEP]"
    assert names[1] == "unaffable"
    assert tokenizer.decode(tokenizer.encode("affableaware")) == "affableaware"
    assert tokenizer.special_ids["[PAD]"] == 0 == tokenizer.pad_id


def test_the_order_of_texts_changes_nothing_and_rare_characters_become_unknown():
    config = WordPieceConfig(vocabulary_size=300, coverage=0.99)
    tokenizer = train_wordpiece(TEXTS, config).tokenizer
    assert tokenizer.hash == train_wordpiece(reversed(TEXTS), config).tokenizer.hash
    assert tokenizer.encode("狗") == [tokenizer.special_ids["[UNK]"]]


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r"\[MASK\]"):
        WordPieceConfig(special_tokens=("[PAD]", "[UNK]", "[CLS]", "[SEP]"))
    with pytest.raises(ValueError, match="inside a word"):
        WordPieceConfig(special_tokens=(*WordPieceConfig().special_tokens, "##a"))
    with pytest.raises(ValueError, match="lower coverage"):
        train_wordpiece(["abcdefghij klm"], WordPieceConfig(vocabulary_size=10, coverage=1.0))
    with pytest.raises(ValueError, match="every text is empty"):
        train_wordpiece(["  "])
