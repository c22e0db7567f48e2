"""Byte-level BPE with SmolLM2's vocabulary, against the algorithm written down naively and against transformers."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.model.gguf_file import open_gguf
from lmworks.tokenizer.byte_level import byte_level_bpe

regex = pytest.importorskip("regex")

# The two expressions of llama.cpp's pre-tokenizer `smollm`, applied one after the other.
DIGIT = regex.compile(r"\p{N}")
WORD = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")

# The vocabulary has no token for these control characters, nor for the first byte of characters from U+40000 on.
WITH_TOKENS = st.characters(exclude_categories=["Cs"], exclude_characters="\4\6\x13\x14\x16\x1d", max_codepoint=0x3FFFF)


def printable_bytes() -> list[str]:
    """GPT-2's table: printable bytes stand for themselves, the others for the characters from U+0100 on."""
    kept = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in kept else chr(next(others)) for byte in range(256)]


BYTES = printable_bytes()


def naive_encode(text: str, vocabulary: dict[str, int], ranks: dict[tuple[str, str], int]) -> list[int]:
    words, end = [], 0
    for match in [*DIGIT.finditer(text), None]:
        words += WORD.findall(text[end : match.start() if match else len(text)])
        if match:
            words.append(match.group())
            end = match.end()
    ids = []
    for word in words:
        parts = [BYTES[byte] for byte in word.encode()]
        while True:
            pairs = [(ranks[pair], at) for at, pair in enumerate(pairwise(parts)) if pair in ranks]
            if not pairs:
                break
            at = min(pairs)[1]
            parts[at : at + 2] = ["".join(parts[at : at + 2])]
        ids += [vocabulary[part] for part in parts]
    return ids


@pytest.fixture(scope="module")
def naive(smollm2) -> Callable[[str], list[int]]:
    metadata = open_gguf(smollm2).metadata
    vocabulary = {token: index for index, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(metadata["tokenizer.ggml.merges"])}
    return lambda text: naive_encode(text, vocabulary, ranks)


@pytest.mark.weights
@given(text=st.text(WITH_TOKENS, max_size=40) | st.text("aeinorst '!?.,\n\t012345é½Ⅷ漢字🙂", max_size=60))
def test_equals_the_naive_algorithm(smollm2_checkpoint, naive, text):
    assert smollm2_checkpoint.tokenizer.encode(text) == naive(text)


@pytest.mark.weights
def test_equals_the_naive_algorithm_on_prose(smollm2_checkpoint, naive):
    text = "It's 1,234.5 km/h — they'll say: “naïve café”?\n\n\tdef f(x): return x**2  # déjà-vu 漢字 🙂\r\n   end"
    assert smollm2_checkpoint.tokenizer.encode(text) == naive(text)


def test_an_unknown_pre_tokenizer_is_refused():
    with pytest.raises(ValueError, match=r"'tekken' is not known \(known: default, gpt-2, llama-bpe, qwen2, smollm\)"):
        byte_level_bpe(["a"], [], [1], "tekken")


def test_special_and_user_defined_tokens():
    tokenizer = byte_level_bpe(["a", "b", "<s>", "<tool>"], [], [1, 1, 3, 4], "gpt-2")
    added = tokenizer.get_added_tokens_decoder()
    assert {index: (token.content, token.special) for index, token in added.items()} == {
        2: ("<s>", True),
        3: ("<tool>", False),
    }
