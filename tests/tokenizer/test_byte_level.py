"""Byte-level BPE from the parts in a GGUF file."""

import pytest

from lmworks.tokenizer.byte_level import byte_level_bpe


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
