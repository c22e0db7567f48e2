"""Rank files, against `tiktoken` with the patterns that it publishes."""

import base64
import random
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path

import foreign_vocabularies as foreign
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.tokenizer import Tokenizer, load_tiktoken
from lmworks.tokenizer.byte_level import byte_letters
from lmworks.tokenizer.tiktoken_ranks import ENCODINGS, RankEncoding, rank_tokenizer, read_ranks, recover_merges
from published_data import needs_data

tiktoken = pytest.importorskip("tiktoken", reason="pip install tiktoken")
published = pytest.importorskip("tiktoken_ext.openai_public", reason="pip install tiktoken")

BYTES = byte_letters()
SPECIAL_CASES = (
    "aeioutnshr lTI.,'\n\t\r  ßé日🙂0123456789-/SſK'sS’́ǅ\u0301<|endoftext|>\x85\xa0\u3000㍘Ⅷ½ \u200b\u200d😀👩‍🚀"
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text(st.sampled_from(SPECIAL_CASES))


def theirs(encoding: str, ranks: dict[bytes, int], monkeypatch: pytest.MonkeyPatch) -> "tiktoken.Encoding":
    """tiktoken's encoding, which would fetch the ranks from the network."""
    monkeypatch.setattr(published, "load_tiktoken_bpe", lambda *_, **__: ranks)
    return tiktoken.Encoding(**getattr(published, f"{encoding}_base")())


@pytest.fixture(scope="module")
def gpt2_ranks() -> dict[bytes, int]:
    """GPT-2's ids are its ranks, but for the special token."""
    tokens, _ = foreign.gpt2_parts()
    return {bytes(map(BYTES.__getitem__, t)): i for i, t in enumerate(tokens) if t != "<|endoftext|>"}


@pytest.fixture(scope="module")
def gpt2_file(gpt2_ranks, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("ranks") / "r50k.tiktoken"
    path.write_bytes(b"".join(base64.b64encode(t) + b" %d\n" % rank for t, rank in gpt2_ranks.items()))
    return path


@pytest.fixture(scope="module")
def gpt2_pair(gpt2_ranks, gpt2_file):
    with pytest.MonkeyPatch.context() as patch:
        return load_tiktoken(gpt2_file, "gpt2"), theirs("r50k", gpt2_ranks, patch)


@needs_data
def test_the_merges_of_gpt2_come_back_in_their_order(gpt2_ranks):
    _, published_merges = foreign.gpt2_parts()
    pairs = [tuple(bytes(map(BYTES.__getitem__, part)) for part in merge.split(" ")) for merge in published_merges]
    assert recover_merges(gpt2_ranks) == pairs


@needs_data
@given(text=texts)
def test_any_text(gpt2_pair, text):
    ours, other = gpt2_pair
    ids = ours.encode(text)
    assert ids == other.encode_ordinary(text)
    assert ours.decode(ids) == text


@needs_data
def test_many_languages(gpt2_pair):
    ours, other = gpt2_pair
    for text in foreign.ntrex():
        assert ours.encode(text[:20_000]) == other.encode_ordinary(text[:20_000])


@needs_data
def test_special_tokens_have_their_ids_and_are_text_in_a_text(gpt2_pair):
    ours, other = gpt2_pair
    assert ours.special_ids == {"<|endoftext|>": other.eot_token}
    assert ours.eos_id == other.eot_token and ours.vocabulary_size == other.n_vocab
    assert other.eot_token not in ours.encode("a<|endoftext|>b")


@given(
    tokens=st.lists(
        st.binary(min_size=2, max_size=5) | st.text("ab ", min_size=2, max_size=6).map(str.encode), max_size=25
    ),
    order=st.randoms(use_true_random=False),
    text=st.text("ab c\n", max_size=30),
)
def test_ranks_in_any_order(tokens, order, text):
    """No trained vocabulary has tokens that those of lower rank do not lead to; these mostly have."""
    spelled = [*(bytes([byte]) for byte in range(256)), *dict.fromkeys(tokens)]
    numbers = list(range(len(spelled)))
    order.shuffle(numbers)
    ranks = dict(zip(spelled, numbers, strict=True))
    for name in ("gpt2", "cl100k", "o200k"):
        ours = rank_tokenizer(ranks, RankEncoding(0, ENCODINGS[name].words, {}))
        pattern = published.r50k_pat_str if name == "gpt2" else patterns()[name]
        other = tiktoken.Encoding("any", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        assert ours.encode(text) == other.encode_ordinary(text)


@cache
def patterns() -> dict[str, str]:
    """The published patterns; the ranks that belong to them are not asked for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "load_tiktoken_bpe", lambda *_, **__: {})
        return {name: getattr(published, f"{name}_base")()["pat_str"] for name in ("cl100k", "o200k")}


@for_each(
    ("content", "message"),
    [
        (b"IQ== 0\nIg==\n", r"ranks, line 2: b'Ig==' is not a token in base64, a space and a rank"),
        (b"IQ== 0\n\nI*== 1\n", "line 3"),
        (b"IQ== x\n", "line 1"),
        (b"IQ== 0 0\n", "line 1"),
        (b"IQ== 0\nIg== 0\n", "line 2: the token b'\"' or its rank 0"),
        (b"IQ== 0\nIQ== 1\n", "line 2"),
        (b"IQ== -1\n", "line 1"),
        (b"IQ== 0\n", "holds 1 tokens, and cl100k has 100256: the file is incomplete or belongs to another encoding"),
    ],
)
def test_damaged_files_are_refused(tmp_path, content, message):
    path = tmp_path / "ranks"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_tiktoken(path, "cl100k")


@needs_data
def test_other_mistakes_are_named(tmp_path, gpt2_file, gpt2_ranks):
    with pytest.raises(ValueError, match=r"'gpt4' is not known \(known: gpt2, r50k, p50k, cl100k, o200k, qwen\)"):
        load_tiktoken(gpt2_file, "gpt4")
    with pytest.raises(ValueError, match="1 bytes have no token, the first of them 0x41"):
        rank_tokenizer({token: rank for token, rank in gpt2_ranks.items() if token != b"A"}, ENCODINGS["gpt2"])
    with pytest.raises(ValueError, match="of another encoding"):
        rank_tokenizer(gpt2_ranks, RankEncoding(0, ENCODINGS["gpt2"].words, {"<|endoftext|>": 7}))
    (tmp_path / "qwen.tiktoken").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"qwen\.tiktoken does not say which encoding .* \S*load_tiktoken\("):
        Tokenizer.load(tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# The published vocabularies


@pytest.fixture(scope="module", params=["p50k", "cl100k", "o200k"])
def published_pair(request):
    path = foreign.from_wheel("litellm==1.110.2") / f"{request.param}.tiktoken"
    with pytest.MonkeyPatch.context() as patch:
        other = theirs(request.param, read_ranks(path), patch)
    return load_tiktoken(path, request.param), other


@pytest.fixture(scope="module")
def qwen_pair():
    folder = foreign.from_wheel("dashscope==2.0.2")
    source = (folder / "qwen_tokenizer.py").read_text("utf-8")
    pattern = source.partition('PAT_STR = r"""')[2].partition('"""')[0]
    ranks = read_ranks(folder / "qwen.tiktoken")
    other = tiktoken.Encoding("qwen", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return load_tiktoken(folder / "qwen.tiktoken", "qwen"), other


def equal_on_everything(ours: Tokenizer, encode: Callable[[str], list[int]]) -> None:
    for corpus in (foreign.ntrex, foreign.declarations, foreign.peps, foreign.books, foreign.source_code):
        for text in corpus():
            assert ours.encode(text) == encode(text), text[:80]
    choose = random.Random(0)
    for _ in range(20_000):
        text = "".join(choose.choices(SPECIAL_CASES, k=choose.randrange(30)))
        assert ours.encode(text) == encode(text), text


@needs_data
@pytest.mark.slow
def test_published_vocabularies(published_pair):
    ours, other = published_pair
    assert ours.vocabulary_size == other.n_vocab
    assert ours.special_ids == {name: other.encode_single_token(name) for name in other.special_tokens_set}
    equal_on_everything(ours, other.encode_ordinary)


@pytest.mark.slow
def test_qwens_vocabulary(qwen_pair):
    ours, other = qwen_pair
    assert (ours.special_ids["<|im_end|>"], ours.special_ids["<|extra_204|>"]) == (151645, 151850)
    equal_on_everything(ours, lambda text: other.encode_ordinary(unicodedata.normalize("NFC", text)))


@pytest.mark.slow
@for_each("character", ["a", "\n", "🙂", "7", "ß", "漢"])
def test_a_megabyte_of_one_character(published_pair, character):
    """Of a space, too many for tiktoken 0.14, whose regular expressions run out of stack."""
    ours, other = published_pair
    text = character * (1_000_000 // len(character.encode()))
    assert ours.encode(text) == other.encode_ordinary(text)
    assert ours.decode(ours.encode(" " * 1_000_000)) == " " * 1_000_000


@pytest.mark.slow
def test_every_character_alone_and_between_letters(published_pair):
    ours, other = published_pair
    every = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for start in range(0, len(every), 20_000):
        chunk = every[start : start + 20_000]
        for cases in (chunk, [f"a{character}b" for character in chunk]):
            ids = ours.encode_batch(cases)
            assert ids == other.encode_ordinary_batch(cases)
            assert ours.backend.decode_batch(ids) == cases
