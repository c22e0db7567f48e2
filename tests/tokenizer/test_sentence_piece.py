"""SentencePiece's BPE from pieces and scores, against the `sentencepiece` library and published models of it."""

import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.tokenizer.byte_level import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED
from lmworks.tokenizer.sentence_piece import sentence_piece_bpe
from lmworks.tokenizer.tokenizer import Tokenizer

sentencepiece = pytest.importorskip("sentencepiece", reason="pip install sentencepiece")
TEXT = Path(__file__).parents[3] / "shared" / "data" / "sentencepiece-models" / "botchan.txt.gz"


def train(space_prefix: bool) -> "sentencepiece.SentencePieceProcessor":
    """BPE with all bytes, runs of spaces and newlines kept, and a token of the user's own, as LLaMA and Gemma have."""
    if not TEXT.exists():
        pytest.skip(f"needs the text {TEXT}")
    model = io.BytesIO()
    with gzip.open(TEXT, "rt", encoding="utf-8") as stream:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(stream.read().splitlines()[:4000]), model_writer=model, model_type="bpe",
            vocab_size=1200, byte_fallback=True, character_coverage=0.999, user_defined_symbols=["<tag>"],
            add_dummy_prefix=space_prefix, remove_extra_whitespaces=False, normalization_rule_name="identity",
            allow_whitespace_only_pieces=True, minloglevel=2,
        )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def rebuild(theirs: "sentencepiece.SentencePieceProcessor", space_prefix: bool) -> Tokenizer:
    ids = range(theirs.get_piece_size())

    def kind(index: int) -> int:
        if theirs.is_unknown(index):
            return UNKNOWN
        if theirs.is_control(index):
            return CONTROL
        return BYTE if theirs.is_byte(index) else USER_DEFINED if theirs.id_to_piece(index) == "<tag>" else NORMAL

    pieces, scores = [theirs.id_to_piece(i) for i in ids], [theirs.get_score(i) for i in ids]
    return Tokenizer(sentence_piece_bpe(pieces, scores, [kind(i) for i in ids], space_prefix))


@pytest.fixture(scope="module", params=[True, False], ids=["space prefix", "no prefix"])
def pair(request):
    theirs = train(request.param)
    return theirs, rebuild(theirs, request.param)


def test_a_book(pair):
    theirs, ours = pair
    with gzip.open(TEXT, "rt", encoding="utf-8") as stream:
        lines = stream.read().splitlines()
    assert len(lines) > 4000  # what the vocabulary was not made from, too
    for line in filter(None, lines):
        ids = ours.encode(line)
        assert ids == theirs.encode(line)
        assert ours.decode(ids) == line


@given(text=st.text(st.sampled_from("aeioutnshr lTI.,'\n\t  ßé日🙂0123456789-"), min_size=1, max_size=60))
def test_any_text(pair, text):
    """Spaces in a row, characters without a piece, and what is left of them: as SentencePiece itself."""
    theirs, ours = pair
    assert ours.encode(text) == theirs.encode(text)
    assert ours.decode(ours.encode(text)) == text


def test_tokens_of_the_users_own_are_whole_and_special_ones_are_text(pair):
    theirs, ours = pair
    assert ours.encode("a<tag>b").count(theirs.piece_to_id("<tag>")) == 1
    assert theirs.piece_to_id("<s>") not in ours.encode("a<s>b")
    assert ours.decode(ours.encode("a<s>b")) == "a<s>b"
