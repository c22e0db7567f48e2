"""Byte-level BPE (Radford et al. 2019, GPT-2, section 2.2) from its parts, as a GGUF file stores them.

A GGUF file holds the vocabulary and the merges, and of the pre-tokenizer only a name: the rule that cuts a text into
words before merging lives in the program. A wrong rule runs as well and gives other ids, so an unknown name is an
error.
"""

from collections.abc import Sequence

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

CONTROL, USER_DEFINED = 3, 4  # GGUF's token types of special tokens and of added ordinary ones


def byte_level_bpe(
    tokens: Sequence[str], merges: Sequence[str], token_types: Sequence[int], pre_tokenizer: str
) -> tokenizers.Tokenizer:
    """The tokenizer with `tokens` in the order of their ids, `merges` ("a b") in the order of their rank.

    `pre_tokenizer` is GGUF's name for the rule that splits words; ValueError for one that is not known here.
    """
    if pre_tokenizer not in _PRE_TOKENIZERS:
        known = ", ".join(sorted(_PRE_TOKENIZERS))
        raise ValueError(
            f"pre-tokenizer {pre_tokenizer!r} is not known (known: {known}); load this model from a Hugging Face "
            "folder, whose tokenizer.json is complete"
        )
    vocabulary = {token: index for index, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))  # pyright: ignore[reportArgumentType]
    tokenizer.pre_tokenizer = _PRE_TOKENIZERS[pre_tokenizer]()
    tokenizer.decoder = decoders.ByteLevel()
    for kind, special in ((CONTROL, True), (USER_DEFINED, False)):
        chosen = [token for token, token_type in zip(tokens, token_types, strict=True) if token_type == kind]
        added = [AddedToken(token, special=special, normalized=False) for token in chosen]
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)(added)
    return tokenizer


def _gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _smollm() -> pre_tokenizers.PreTokenizer:
    """GPT-2's words, with every digit a word of its own."""
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


_PRE_TOKENIZERS = {"gpt-2": _gpt2, "smollm": _smollm}
