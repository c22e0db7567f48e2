"""The bytes of tokens, against what the tokenizer decodes."""

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models

from lmworks.model.gguf_file import open_gguf
from lmworks.tokenizer.byte_level import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED
from lmworks.tokenizer.gguf_vocabulary import read_tokenizer
from lmworks.tokenizer.sentence_piece import sentence_piece_bpe
from lmworks.tokenizer.token_bytes import drops_first_space, token_bytes
from lmworks.tokenizer.tokenizer import Tokenizer


def sentence_piece(space_prefix: bool) -> Tokenizer:
    pieces = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "▁a", "▁▁", "<tag>", "é"]
    kinds = [UNKNOWN, CONTROL, *[BYTE] * 256, NORMAL, NORMAL, NORMAL, USER_DEFINED, USER_DEFINED, NORMAL]
    return Tokenizer(sentence_piece_bpe(pieces, [-float(n) for n in range(len(pieces))], kinds, space_prefix))


@pytest.fixture(scope="module", params=["byte-level", "space prefix", "no prefix"])
def tokenizer(request, tiny_tokenizer):
    return tiny_tokenizer if request.param == "byte-level" else sentence_piece(request.param == "space prefix")


@given(data=st.data())
def test_joined_they_are_what_the_tokens_decode_to(tokenizer, data):
    spelled = token_bytes(tokenizer)
    texts = [token for token, text in enumerate(spelled) if text]
    ids = data.draw(st.lists(st.sampled_from(texts), max_size=8))
    joined = b"".join(spelled[token] for token in ids)
    try:
        text = joined.decode()
    except UnicodeDecodeError:  # then decoders differ in how many U+FFFD they put
        return
    assert tokenizer.decode(ids) == (text.removeprefix(" ") if drops_first_space(tokenizer, spelled) else text)


def test_special_and_unknown_tokens_have_none(tokenizer):
    spelled = token_bytes(tokenizer)
    special = [*tokenizer.special_ids.values(), *filter(None, [tokenizer.backend.token_to_id("<unk>")])]
    assert special
    assert all(spelled[token] == b"" for token in special)
    assert len(spelled) == tokenizer.vocabulary_size


@pytest.mark.weights
def test_every_token_of_a_published_vocabulary(smollm2):
    tokenizer = read_tokenizer(open_gguf(smollm2).metadata)
    spelled = token_bytes(tokenizer)
    special = set(tokenizer.special_ids.values())
    for token, text in enumerate(spelled):
        assert (text == b"") is (token in special)
        assert tokenizer.decode([token]) == text.decode("utf-8", "replace")


def test_tokens_that_are_no_plain_bytes_are_refused():
    backend = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece()
    with pytest.raises(ValueError, match="WordPiece"):
        token_bytes(Tokenizer(backend))
