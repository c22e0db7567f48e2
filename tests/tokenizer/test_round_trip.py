"""Text to ids and back, whole, and piece by piece as a model writes it: with vocabularies of all kinds."""

from functools import cache
from pathlib import Path

import foreign_vocabularies as foreign
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.tokenizer import Detokenizer, Tokenizer, load_sentence_piece, load_tiktoken
from lmworks.tokenizer.byte_level import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED
from lmworks.tokenizer.incremental_detokenizer import REPLACEMENT
from lmworks.tokenizer.sentence_piece import sentence_piece_bpe
from published_data import needs_data

CHARACTERS = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.text("aé日🙂👩‍🚀 \n한e\u0301", max_size=30)


def characters_and_bytes(space_prefix: bool) -> Tokenizer:
    """SentencePiece's BPE with a few pieces, so that most characters are bytes."""
    words = ["▁", "a", "b", "▁a", "▁▁", "é", "日", "▁日", "<tag>"]
    pieces = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    types = [UNKNOWN, CONTROL, *[BYTE] * 256, *[NORMAL] * (len(words) - 1), USER_DEFINED]
    return Tokenizer(sentence_piece_bpe(pieces, [-float(n) for n in range(len(pieces))], types, space_prefix))


def unigram(folder: Path) -> Tokenizer:
    (folder / "m.model").write_bytes(foreign.sentence_piece_file("test_ja_model"))
    return load_sentence_piece(folder / "m.model")


def published(name: str) -> Tokenizer:
    if name == "mistral":
        return load_sentence_piece(foreign.from_wheel("mistral-common==1.13.1") / "v7.model")
    return load_tiktoken(foreign.from_wheel("litellm==1.110.2") / f"{name}.tiktoken", name)


GPT_2 = {"GPT-2": foreign.gpt2, "GPT-2, cl100k's words": lambda: foreign.gpt2("llama-bpe")}
COMPLETE = {
    **GPT_2,
    "space prefix": lambda: characters_and_bytes(True),
    "no prefix": lambda: characters_and_bytes(False),
}
PUBLISHED = [pytest.param(name, marks=pytest.mark.slow) for name in ("p50k", "cl100k", "o200k", "mistral")]
FURTHER = [pytest.param(name, marks=needs_data) for name in ("BERT", "Unigram")]
VOCABULARIES = ["space prefix", "no prefix", *(pytest.param(name, marks=needs_data) for name in GPT_2), *PUBLISHED]


@pytest.fixture(scope="module", params=VOCABULARIES)
def complete(request) -> Tokenizer:
    """A vocabulary that can write any text."""
    return COMPLETE[request.param]() if request.param in COMPLETE else published(request.param)


@pytest.mark.slow
def test_every_character_comes_back(complete):
    """But ▁, which is SentencePiece's spelling of a space."""
    spelled = " " if complete.decode(complete.encode("▁")) == " " else "▁"
    for start in range(0, len(CHARACTERS), 50_000):
        some = CHARACTERS[start : start + 50_000]
        for cases in (some, [f"a{character}b" for character in some]):
            found = complete.backend.decode_batch(complete.encode_batch(cases))
            assert found == [case.replace("▁", spelled) for case in cases]


@given(text=texts)
def test_any_text_comes_back(complete, text):
    spelled = " " if complete.decode(complete.encode("▁")) == " " else "▁"
    assert complete.decode(complete.encode(text)) == text.replace("▁", spelled)


# ---------------------------------------------------------------------------------------------------------------------
# Streaming


@pytest.fixture(scope="module", params=[*VOCABULARIES, *FURTHER])
def tokenizer(request, tmp_path_factory) -> Tokenizer:
    if request.param == "BERT":
        return foreign.bert()
    if request.param == "Unigram":
        return unigram(tmp_path_factory.mktemp("model"))
    return COMPLETE[request.param]() if request.param in COMPLETE else published(request.param)


@cache
def names_of(tokenizer: Tokenizer) -> dict[str, int]:
    return tokenizer.backend.get_vocab()


def pieces(tokenizer: Tokenizer, ids: list[int], skip_special: bool = True) -> list[str]:
    stream = Detokenizer(tokenizer, skip_special)
    return [*[stream.push(token) for token in ids], stream.flush()]


@given(text=texts)
def test_no_piece_of_a_text_ends_inside_a_character(tokenizer, text):
    ids = tokenizer.encode(text)
    whole, found = tokenizer.decode(ids), pieces(tokenizer, ids)
    assert "".join(found) == whole
    if REPLACEMENT not in whole:
        assert not any(REPLACEMENT in piece for piece in found)


@given(data=st.data())
def test_pieces_of_any_ids_join_to_the_decoded_whole(tokenizer, data):
    """What a model writes at a high temperature is mostly no text: any tokens, or the parts of characters."""
    vocabulary = names_of(tokenizer)
    bytes_ = [vocabulary[name] for byte in range(256) if (name := f"<0x{byte:02X}>") in vocabulary]
    parts = st.sampled_from([*(bytes_ or range(256)), *(vocabulary[name] for name in ("a", "▁") if name in vocabulary)])
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocabulary_size - 1), max_size=20) | st.lists(parts, max_size=20))
    whole, found = tokenizer.decode(ids), pieces(tokenizer, ids)
    if bytes_ and REPLACEMENT in whole:
        # The library gives up all characters of a run of bytes that are no text; those that are out stay out.
        left = iter("".join(found))
        assert all(character in left for character in whole if character != REPLACEMENT)  # in this order
    else:
        assert "".join(found) == whole


@given(ids=st.lists(st.integers(0, 266), max_size=40), skip_special=st.booleans())
def test_pieces_with_special_tokens_join_to_the_decoded_whole(tiny_tokenizer, ids, skip_special):
    """Random bytes are mostly invalid UTF-8, as a model at high temperature writes."""
    assert "".join(pieces(tiny_tokenizer, ids, skip_special)) == tiny_tokenizer.decode(ids, skip_special)


def test_text_is_not_held_longer_than_its_character(tiny_tokenizer):
    found = pieces(tiny_tokenizer, tiny_tokenizer.encode("a🙂b"))
    assert found == ["a", "", "", "", "🙂", "b", ""]
