"""The compiled encoder gives the ids of the `tokenizers` library, and stands aside where it does not know how."""

import copy
import inspect
import json
import pickle
import random
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers

from kit.tables import for_each
from lmworks.tokenizer.config import BpeConfig
from lmworks.tokenizer.fast_bpe import CompiledEncoding, compiled_encoding
from lmworks.tokenizer.tokenizer import WORTH_COMPILING, Tokenizer
from lmworks.tokenizer.training.trainers import train_bpe
from odd_characters import PIECES
from slow_cases import slow

TEXT = inspect.getsource(textwrap)
RULES = [("gpt2", "run"), ("gpt2", "one"), ("gpt4", "three"), ("gpt4", "one"), ("none", "run")]


def smollm() -> tokenizers.Tokenizer:
    """GPT-2's words with every digit apart, and a vocabulary that lacks a byte."""
    state = json.loads(train_bpe([TEXT], BpeConfig(vocabulary_size=500, words="gpt2")).tokenizer.backend.to_str())
    del state["model"]["vocab"]["ā"]  # byte 1
    state["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        ],
    }
    return tokenizers.Tokenizer.from_str(json.dumps(state))


def whole_words() -> tokenizers.Tokenizer:
    """Words that are tokens are taken as they are, as in LLaMA 3: here one that merges do not lead to."""
    state = json.loads(train_bpe([TEXT], BpeConfig(vocabulary_size=500)).tokenizer.backend.to_str())
    state["model"]["vocab"]["Ġunreachable"] = 500
    state["model"]["ignore_merges"] = True
    return tokenizers.Tokenizer.from_str(json.dumps(state))


def trained(words, digits) -> tokenizers.Tokenizer:
    return train_bpe([TEXT], BpeConfig(vocabulary_size=600, words=words, digits=digits)).tokenizer.backend


BACKENDS = {f"{words} {digits}": trained(words, digits) for words, digits in RULES}
BACKENDS |= {"smollm": smollm(), "whole words": whole_words()}


@pytest.fixture(scope="module", params=BACKENDS, ids=str)
def both(request) -> tuple[CompiledEncoding, tokenizers.Tokenizer]:
    backend = BACKENDS[request.param]
    backend.encode_special_tokens = True
    compiled = compiled_encoding(backend)
    assert compiled is not None
    return compiled, backend


def assert_equal(both, texts: list[str]) -> None:
    compiled, backend = both
    expected = [found.ids for found in backend.encode_batch_fast(texts, add_special_tokens=False)]
    for way in (compiled.encode, compiled.encode_batch):
        assert [ids.tolist() for ids in way([text.encode() for text in texts])] == expected


@pytest.mark.parametrize("count", [1000, *slow(3000)])
def test_on_what_the_rules_look_at(both, count):
    generator = random.Random(0)
    texts = [
        "".join(generator.choices([*PIECES, "\x01", "un", " unreachable"], k=generator.randrange(40)))
        for _ in range(count)
    ]
    assert_equal(both, texts)


@given(texts=st.lists(st.text()))
def test_on_any_text(both, texts):
    assert_equal(both, texts)


def test_on_source_code_and_special_tokens(both):
    assert_equal(both, [TEXT, "<|endoftext|>" * 3, "", TEXT[::-1]])


@for_each("unit", ["a", " ", "\n", "é", "🙂", "9", "ab", "self"])
def test_on_long_words(both, unit):
    assert_equal(both, [unit * 20_000, unit * 63, unit * 64, unit * 65])


def test_threads_and_copies(both):
    compiled, backend = both
    texts = [TEXT[start : start + 5000] for start in range(0, 10_000, 100)]
    expected = [found.ids for found in backend.encode_batch_fast(texts, add_special_tokens=False)]
    with ThreadPoolExecutor(4) as pool:
        found = [
            ids.tolist() for part in pool.map(lambda text: compiled.encode([text.encode()]), texts) for ids in part
        ]
    assert found == expected
    for copied in (copy.deepcopy(compiled), pickle.loads(pickle.dumps(compiled))):
        assert [ids.tolist() for ids in copied.encode_batch([text.encode() for text in texts])] == expected


def changed(**parts) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer.from_str(BACKENDS["gpt4 three"].to_str())
    for name, part in parts.items():
        setattr(backend, name, part)
    return backend


def with_ordinary_token() -> tokenizers.Tokenizer:
    backend = changed()
    backend.add_tokens(["whole"])
    return backend


@for_each(
    "backend",
    [
        changed(normalizer=normalizers.NFC()),
        changed(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True)),
        changed(pre_tokenizer=pre_tokenizers.Whitespace()),
        changed(pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), pre_tokenizers.ByteLevel(False)])),
        with_ordinary_token(),
        tokenizers.Tokenizer(models.WordLevel({"a": 0}, "a")),
        train_bpe([TEXT], BpeConfig(vocabulary_size=600, words="metaspace")).tokenizer.backend,
    ],
)
def test_stands_aside(backend):
    assert compiled_encoding(backend) is None


def test_stands_aside_where_nothing_is_compiled(monkeypatch):
    monkeypatch.setattr("lmworks.tokenizer.library.load", lambda: None)
    assert compiled_encoding(BACKENDS["gpt4 three"]) is None


def test_the_tokenizer_takes_it_for_much_text_only(monkeypatch):
    made = []

    def watched(backend):
        made.append(compiled_encoding(backend))
        return made[-1]

    monkeypatch.setattr("lmworks.tokenizer.tokenizer.compiled_encoding", watched)
    tokenizer = Tokenizer(changed(decoder=decoders.ByteLevel()))
    short, long = TEXT[:1000], TEXT * (WORTH_COMPILING // len(TEXT) + 1)
    expected = tokenizer.encode(short)
    assert not made
    ids = tokenizer.encode(long)
    assert len(made) == 1 and made[0] is not None
    assert ids == tokenizer.backend.encode(long, add_special_tokens=False).ids
    assert tokenizer.encode(short) == expected and tokenizer.encode_batch([short, long]) == [expected, ids]
    assert len(made) == 1
    with pytest.raises(UnicodeEncodeError):
        tokenizer.encode("\ud800")


def test_tokens_that_are_added_later_are_noticed():
    tokenizer = Tokenizer(changed(decoder=decoders.ByteLevel()))
    long = TEXT * (WORTH_COMPILING // len(TEXT) + 1)
    tokenizer.encode(long)  # which is worth compiling
    before, size, names = tokenizer.hash, tokenizer.vocabulary_size, dict(tokenizer.special_ids)
    tokenizer.backend.add_tokens(["textwrap is"])
    tokenizer.backend.add_special_tokens(["<|new|>"])
    for text in ("textwrap is <|new|>", f"{long}textwrap is <|new|>"):
        assert tokenizer.encode(text) == tokenizer.backend.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text).count(size) == text.count("textwrap is") > 0
    assert tokenizer.vocabulary_size == size + 2 and tokenizer.hash != before
    assert tokenizer.special_ids == names | {"<|new|>": size + 1}


def test_smollm_knows_the_numbers_of_digits():
    """The library's `Digits` follows a later version of Unicode than its regular expressions."""
    backend = BACKENDS["smollm"]
    backend.encode_special_tokens = True
    compiled = compiled_encoding(backend)
    assert compiled is not None
    points = [*range(0x11D00, 0x11E00), *range(0x16F00, 0x17000), *range(0x660, 0x670), *range(0x2150, 0x2190)]
    texts = [f"{chr(code) * 2}a {chr(code)}  {chr(code)}" for code in points]
    assert_equal((compiled, backend), texts)


def test_two_names_for_one_id_are_left_to_the_library():
    state = json.loads(BACKENDS["gpt4 three"].to_str())
    state["model"]["vocab"]["another name"] = state["model"]["vocab"]["a"]
    assert compiled_encoding(tokenizers.Tokenizer.from_str(json.dumps(state))) is None
