"""The reference encoders and the `tokenizers` library, each the other's oracle: the same ids of one tokenizer.json."""

import json
import unicodedata
from collections.abc import Callable
from functools import cache
from itertools import islice, pairwise
from pathlib import Path

import foreign_vocabularies as foreign
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from reference_encoders import best_pieces, merge
from reference_normalizer import read_normaliser
from reference_tokenizer import reference_encoder
from reference_words import is_punctuation, split_isolated
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers

from kit.tables import for_each
from lmworks.tokenizer import Tokenizer, load_sentence_piece, load_tiktoken
from lmworks.tokenizer.byte_level import byte_level_bpe
from lmworks.tokenizer.tiktoken_ranks import ENCODINGS, RankEncoding, rank_tokenizer
from published_data import needs_data

Encode = Callable[[str], list[int]]
HARD = "aeioutnshr lTI.,'\n\t\r  ßé日🙂0123456789-/SſK'sS’\u0301ǅ\x85\xa0\u2003½ﬁＡ①ABCdéÉ<s></>▁\u3000ͅİΣς"
every = st.characters(exclude_categories=["Cs", "Cn"])  # what Python's Unicode does not know yet, the library may
texts = st.text(every, max_size=40) | st.text(st.sampled_from(HARD), max_size=60)


def reference(tokenizer: Tokenizer) -> Encode:
    encode = reference_encoder(json.loads(tokenizer.backend.to_str()))
    return lambda text: list(encode(text))


def o200k() -> Tokenizer:
    """The rule of o200k with GPT-2's merges: its own vocabulary is too large for the quick tests."""
    tokens, merges = foreign.gpt2_parts()
    backend = byte_level_bpe(tokens, merges, [1] * len(tokens), "gpt-2")
    backend.pre_tokenizer = ENCODINGS["o200k"].words()
    return Tokenizer(backend)


def character_bpe(byte_fallback: bool) -> Tokenizer:
    """BPE over characters, with the unknown ones as bytes or as one unknown token."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁aeinrst", "▁t", "in", "er", "▁the", "▁ta", "he"]
    merges = [("▁", "t"), ("i", "n"), ("e", "r"), ("▁t", "a")]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    model = models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=byte_fallback)
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False),
            pre_tokenizers.Split(Regex(r"[\r\n]+|\p{N}{1,3}|▁?[^▁\r\n\p{N}]+|▁"), "isolated"),
        ]
    )
    backend.add_tokens([AddedToken("<tag>", normalized=False), AddedToken("st", normalized=True)])
    return Tokenizer(backend)


def unigram(name: str, folder: Path) -> Tokenizer:
    (folder / name).write_bytes(foreign.sentence_piece_file(name))
    return load_sentence_piece(folder / name)


CASES: dict[str, Callable[[], Tokenizer]] = {
    **{f"GPT-2, {rule}": lambda rule=rule: foreign.gpt2(rule) for rule in ("gpt-2", "smollm", "llama-bpe", "qwen2")},
    "GPT-2, o200k": o200k,
    "BERT": foreign.bert,
    "characters and bytes": lambda: character_bpe(True),
    "characters": lambda: character_bpe(False),
}


OF_DATA = [*(name for name in CASES if "characters" not in name), "Unigram: test_model", "Unigram: test_ja_model"]


@pytest.fixture(
    scope="module",
    params=["characters and bytes", "characters", *(pytest.param(name, marks=needs_data) for name in OF_DATA)],
)
def pair(request, tmp_path_factory):
    kind, _, name = request.param.partition(": ")
    ours = unigram(name, tmp_path_factory.mktemp("model")) if name else CASES[kind]()
    return reference(ours), ours


@cache
def is_of_another_unicode(character: str) -> bool:
    """Whether the library's Unicode and Python's see a character otherwise: the library's is old for BERT and NFKC.

    And 256 ideographs from U+2B820 on, around which BERT puts spaces and the library does not.
    """
    bert, nfkc, marks = normalizers.BertNormalizer(), normalizers.NFKC(), pre_tokenizers.BertPreTokenizer()
    return (
        (len(marks.pre_tokenize_str(f"a{character}b")) == 3) != is_punctuation(character)
        or nfkc.normalize_str(character) != unicodedata.normalize("NFKC", character)
        or bert.normalize_str(character) != bert_normaliser()(character)
    )


@cache
def bert_normaliser() -> Callable[[str], str]:
    return read_normaliser(json.loads(foreign.bert().backend.to_str())["normalizer"])


def usual(text: str, ours: Tokenizer) -> str:
    """Without the characters that the two see otherwise, where it matters."""
    if isinstance(ours.backend.model, models.BPE):
        return text
    return "".join(character for character in text if not is_of_another_unicode(character))


@needs_data
def test_no_character_of_europes_alphabets_is_of_another_unicode():
    assert not any(map(is_of_another_unicode, known("".join(map(chr, range(0x590))))))


@needs_data
@pytest.mark.slow
def test_few_characters_are_of_another_unicode():
    characters = known("".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000))
    assert sum(map(is_of_another_unicode, characters)) < 1100


@given(text=texts)
def test_any_text(pair, text):
    encode, ours = pair
    text = usual(text, ours)
    assert encode(text) == ours.encode(text)


def known(text: str) -> str:
    return "".join(c for c in text if unicodedata.category(c) != "Cn")


def equal_on(corpus: Callable, encode: Encode, ours: Tokenizer, most: int = 1 << 60) -> None:
    for text in corpus():
        text = usual(known(text[:most]), ours)
        assert encode(text) == ours.encode(text), text[:80]


@needs_data
def test_languages(pair):
    equal_on(lambda: islice(foreign.declarations(), 0, None, 5), *pair, most=400)


@needs_data
@pytest.mark.slow
@for_each("corpus", [foreign.declarations, foreign.ntrex, foreign.source_code])
def test_whole_corpora(pair, corpus):
    equal_on(corpus, *pair)


@pytest.mark.slow
@for_each("character", ["a", " ", "\n", "🙂", "7", "é"])
def test_a_megabyte_of_one_character(pair, character):
    encode, ours = pair
    text = character * (1_000_000 // len(character.encode()))
    assert encode(text) == ours.encode(text)


@pytest.mark.slow
def test_every_character(pair):
    """Alone and between letters; a thousand at once, since words end at spaces in all rules."""
    encode, ours = pair
    for code in range(0, 0x110000, 1000):
        some = usual(
            known("".join(chr(c) for c in range(code, min(code + 1000, 0x110000)) if not 0xD800 <= c < 0xE000)), ours
        )
        for text in (" ".join(some), " ".join(f"a{c}b" for c in some)):
            assert encode(text) == ours.encode(text)


@needs_data
@pytest.mark.slow
@for_each("name", ["p50k", "cl100k", "o200k"])
def test_published_ranks(name):
    ours = load_tiktoken(foreign.from_wheel("litellm==1.110.2") / f"{name}.tiktoken", name)
    for corpus in (foreign.declarations, foreign.ntrex, foreign.source_code):
        equal_on(corpus, reference(ours), ours)


@needs_data
@pytest.mark.slow
def test_mistrals_model():
    ours = load_sentence_piece(foreign.from_wheel("mistral-common==1.13.1") / "v7.model")
    for corpus in (foreign.declarations, foreign.ntrex, foreign.source_code):
        equal_on(corpus, reference(ours), ours)


# ---------------------------------------------------------------------------------------------------------------------
# The algorithms, against their definitions written down naively


@given(
    ids=st.lists(st.integers(0, 2), max_size=25),
    pairs=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), unique=True, max_size=8),
)
def test_merging_is_joining_the_lowest_pair_again_and_again(ids, pairs):
    ranks, joined = {pair: rank for rank, pair in enumerate(pairs)}, [3 + rank % 3 for rank in range(len(pairs))]
    naive = list(ids)
    for _ in range(len(ids)):
        found = [(ranks[pair], at) for at, pair in enumerate(pairwise(naive)) if pair in ranks]
        if found:
            rank, at = min(found)
            naive[at : at + 2] = [joined[rank]]
    assert merge(ids, ranks, joined) == naive


@given(
    text=st.text("abc", max_size=9), scores=st.dictionaries(st.text("ab", min_size=1, max_size=4), st.integers(-9, -1))
)
def test_the_best_way_is_the_best_of_all_ways(text, scores):
    def ways(rest: str):
        if not rest:
            yield 0.0
        for end in range(1, len(rest) + 1):
            score = scores.get(rest[:end], -20.0 if end == 1 else None)
            if score is not None:
                yield from (score + other for other in ways(rest[end:]))

    pieces = best_pieces(text, scores, 4, -20.0)
    assert "".join(pieces) == text
    assert sum(scores.get(piece, -20.0) for piece in pieces) == max(ways(text))


@cache
def patterns() -> set[str]:
    """The regular expressions of all rules that cut words."""
    found = set()
    for encoding in ENCODINGS.values():
        bytes_alone = rank_tokenizer({bytes([b]): b for b in range(256)}, RankEncoding(0, encoding.words, {}))
        steps = json.loads(bytes_alone.backend.to_str())["pre_tokenizer"].get("pretokenizers", [])
        found |= {step["pattern"]["Regex"] for step in steps if step["type"] == "Split"}
    return found


@given(text=texts)
def test_words_are_what_the_regular_expression_finds(text):
    for pattern in patterns():
        theirs = pre_tokenizers.Split(Regex(pattern), "isolated").pre_tokenize_str(text)
        assert split_isolated(text, pattern) == [word for word, _ in theirs]


@needs_data
def test_parts_that_are_not_written_down_are_named():
    document = json.loads(foreign.gpt2().backend.to_str())
    for change, message in [
        ({"normalizer": {"type": "StripAccents"}}, "StripAccents"),
        ({"pre_tokenizer": {"type": "UnicodeScripts"}}, "UnicodeScripts"),
        ({"model": {**document["model"], "dropout": 0.1}}, "dropout"),
        ({"model": {"type": "WordLevel"}}, "WordLevel"),
    ]:
        with pytest.raises(ValueError, match=message):
            reference_encoder({**document, **change})
