import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.tokenizer.incremental_detokenizer import REPLACEMENT, Detokenizer


def pieces(tokenizer, ids, skip_special=True) -> list[str]:
    stream = Detokenizer(tokenizer, skip_special)
    return [*[stream.push(token) for token in ids], stream.flush()]


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_pieces_of_a_text_are_whole_characters(tiny_tokenizer, text):
    """Every byte is a token here, so that each character of more than one byte is cut."""
    found = pieces(tiny_tokenizer, tiny_tokenizer.encode(text))
    assert "".join(found) == text
    if REPLACEMENT not in text:
        assert not any(REPLACEMENT in piece for piece in found)


@given(ids=st.lists(st.integers(0, 266), max_size=40), skip_special=st.booleans())
def test_pieces_of_any_ids_join_to_the_decoded_whole(tiny_tokenizer, ids, skip_special):
    """Random bytes are mostly invalid UTF-8, as a model at high temperature writes."""
    assert "".join(pieces(tiny_tokenizer, ids, skip_special)) == tiny_tokenizer.decode(ids, skip_special)


def test_text_is_not_held_longer_than_its_character(tiny_tokenizer):
    found = pieces(tiny_tokenizer, tiny_tokenizer.encode("a🙂b"))
    assert found == ["a", "", "", "", "🙂", "b", ""]


@pytest.mark.weights
@given(data=st.data())
def test_other_vocabularies(smollm2_checkpoint, minilm_checkpoint, data):
    for checkpoint in (smollm2_checkpoint, minilm_checkpoint):
        size = checkpoint.tokenizer.vocabulary_size
        ids = data.draw(st.lists(st.integers(0, size - 1), max_size=20))
        assert "".join(pieces(checkpoint.tokenizer, ids)) == checkpoint.tokenizer.decode(ids)
