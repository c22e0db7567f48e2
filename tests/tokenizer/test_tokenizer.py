import json

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.tokenizer import load_sentence_piece, load_tiktoken
from lmworks.tokenizer.byte_level import byte_level_bpe
from lmworks.tokenizer.tokenizer import Tokenizer

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.lists(
    st.sampled_from(["the ", "<|im_end|>", "<|im_start|>", "\n", "größer", "🙂", "<|im_", "end|>"]), max_size=8
).map("".join)


@given(text=TEXTS)
def test_text_survives_and_never_becomes_special(tiny_tokenizer, text):
    ids = tiny_tokenizer.encode(text)
    assert tiny_tokenizer.decode(ids) == text
    assert not set(ids) & set(tiny_tokenizer.special_ids.values())


@given(text=TEXTS)
def test_offsets_cover_the_text_in_order(tiny_tokenizer, text):
    ids, offsets = tiny_tokenizer.encode_with_offsets(text)
    assert ids == tiny_tokenizer.encode(text)
    covered = set()
    for start, end in offsets:
        covered.update(range(start, end))
    assert offsets == sorted(offsets)
    assert covered == set(range(len(text)))


@given(texts=st.lists(TEXTS, max_size=5))
def test_a_batch_is_its_texts(tiny_tokenizer, texts):
    assert tiny_tokenizer.encode_batch(texts) == [tiny_tokenizer.encode(text) for text in texts]


def test_special_tokens_are_decoded_on_request(tiny_tokenizer):
    ids = [1, *tiny_tokenizer.encode("a"), 2]
    assert tiny_tokenizer.decode(ids) == "a"
    assert tiny_tokenizer.decode(ids, skip_special=False) == "<|im_start|>a<|im_end|>"
    assert (tiny_tokenizer.bos_id, tiny_tokenizer.eos_id, tiny_tokenizer.pad_id) == (1, 2, 2)
    assert tiny_tokenizer.vocabulary_size == 267


def test_save_and_load(tiny_tokenizer, tmp_path):
    tiny_tokenizer.save(tmp_path, chat_template="t", max_length=99)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.hash == tiny_tokenizer.hash
    assert loaded.encode("the thing") == tiny_tokenizer.encode("the thing")
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert (settings["model_max_length"], settings["chat_template"]) == (99, "t")


def test_the_hash_covers_roles_and_ends(tiny_tokenizer):
    backend = tiny_tokenizer.backend
    first = Tokenizer(backend, {"eos_token": "<|im_end|>"}).hash
    assert first == Tokenizer(backend, {"eos_token": "<|im_end|>"}, [2]).hash
    assert first != Tokenizer(backend, {"eos_token": "<|endoftext|>"}).hash
    assert first != Tokenizer(backend, {"eos_token": "<|im_end|>"}, [0]).hash


def test_stored_truncation_and_padding_are_off(tiny_tokenizer, tmp_path):
    backend = tokenizers.Tokenizer.from_str(tiny_tokenizer.backend.to_str())
    backend.enable_truncation(4)
    backend.enable_padding(length=8)
    backend.save(str(tmp_path / "tokenizer.json"))
    loaded = Tokenizer.load(tmp_path)
    assert len(loaded.encode("abcdefghijkl")) == 12
    assert loaded.encode_batch(["a", "abc"]) == [loaded.encode("a"), loaded.encode("abc")]


def test_mistakes_are_named(tiny_tokenizer, tmp_path):
    with pytest.raises(ValueError, match="eos"):
        Tokenizer(tiny_tokenizer.backend, {"eos": "<|im_end|>"})
    with pytest.raises(ValueError, match="not in the vocabulary"):
        Tokenizer(tiny_tokenizer.backend, {"eos_token": "</s>"})
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_what_is_missing_is_named_with_its_remedy(tiny_tokenizer, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere: give one that holds a tokenizer\.json"):
        Tokenizer.load(str(tmp_path / "nowhere"))
    tiny_tokenizer.save(tmp_path)
    with pytest.raises(NotADirectoryError, match=rf"tokenizer\.json is a file: give the folder .*{tmp_path}"):
        Tokenizer.load(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json is damaged"):
        Tokenizer.load(str(tmp_path))


@for_each("load", [load_sentence_piece, lambda path: load_tiktoken(path, "cl100k")])
def test_a_missing_file_is_named_with_its_remedy(load, tmp_path):
    for path in (tmp_path / "nothing.model", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no file .*: give the "):
            load(str(path))


def test_characters_without_a_token_leave_a_gap():
    tokenizer = Tokenizer(byte_level_bpe(["a", "b"], [], [1, 1], "gpt-2"))
    ids, offsets = tokenizer.encode_with_offsets("a\x1db")
    assert tokenizer.decode(ids) == "ab"
    assert offsets == [(0, 1), (2, 3)]


@pytest.mark.weights
def test_special_frames_of_bert(minilm):
    tokenizer = Tokenizer.load(minilm)
    ids = tokenizer.encode("a cat", special=True)
    assert ids == [tokenizer.special_ids["[CLS]"], *tokenizer.encode("a cat"), tokenizer.special_ids["[SEP]"]]
    assert tokenizer.special_ids["[SEP]"] not in tokenizer.encode("a [SEP] b")
