"""Tables of normalisation, against `sentencepiece`'s own normaliser."""

import functools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.tokenizer.sentence_piece_normaliser import Charsmap

sentencepiece = pytest.importorskip("sentencepiece", reason="pip install sentencepiece")
RULES = ("nfkc", "nmt_nfkc", "nfkc_cf", "nmt_nfkc_cf")
HARD = "aeiｶﾞﾊﾟ①ﬁ½\r\n \t\u3099\u0301\u0302\u0323～\u200b가\u1100\u1161\u11a8한İßς\u0344\x01"


@functools.cache
def table(rule: str) -> Charsmap:
    return Charsmap((Path(sentencepiece.__file__).parent / "package_data" / f"{rule}.bin").read_bytes())


@functools.cache
def theirs(rule: str) -> "sentencepiece.SentencePieceNormalizer":
    return sentencepiece.SentencePieceNormalizer(
        rule_name=rule, add_dummy_prefix=False, remove_extra_whitespaces=False, escape_whitespaces=False
    )


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.text(HARD, max_size=30))
def test_any_text(text):
    assert table("nmt_nfkc").normalise(text) == theirs("nmt_nfkc").normalize(text)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_every_character_and_every_key(rule):
    every = [chr(code) for code in range(1, 0x110000) if not 0xD800 <= code < 0xE000]
    for text in (*every, *table(rule).keys):
        assert table(rule).normalise(text) == theirs(rule).normalize(text), ascii(text)


@given(data=st.data())
def test_damaged_tables_are_refused_or_other_tables(data):
    blob = bytearray((Path(sentencepiece.__file__).parent / "package_data" / "nfkc.bin").read_bytes()[:6000])
    size = data.draw(st.integers(0, 1500))
    for _ in range(data.draw(st.integers(0, 20))):
        blob[data.draw(st.integers(4, 400))] = data.draw(st.integers(0, 255))
    blob[:4] = (size * 4).to_bytes(4, "little")
    try:
        Charsmap(bytes(blob)).normalise("ｶﾞ")
    except ValueError as error:
        assert "table" in str(error) or "utf-8" in str(error)
