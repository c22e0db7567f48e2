"""Byte-level BPE (Radford et al. 2019, GPT-2, section 2.2) from its parts, as a GGUF file stores them.

A GGUF file holds the vocabulary and the merges, and of the pre-tokenizer only a name: the rule that cuts a text into
words before merging lives in the program. A wrong rule runs as well and gives other ids, so an unknown name is an
error.
"""

from collections.abc import Callable, Sequence

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from lmworks.tokenizer.pre_tokenizer import WordRule

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # GGUF's token types, which are SentencePiece's


def byte_letters() -> dict[str, int]:
    """GPT-2's letter for each byte (Radford et al. 2019): itself where it is visible, else one from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(0x100 + index): byte for index, byte in enumerate(hidden)}


def byte_level_bpe(
    tokens: Sequence[str], merges: Sequence[str], token_types: Sequence[int], pre_tokenizer: str
) -> tokenizers.Tokenizer:
    """The tokenizer with `tokens` in the order of their ids, `merges` ("a b") in the order of their rank.

    `pre_tokenizer` is GGUF's name for the rule that splits words; ValueError for one that is not known here.
    """
    if pre_tokenizer not in PRE_TOKENIZERS:
        known = ", ".join(sorted(PRE_TOKENIZERS))
        raise ValueError(
            f"pre-tokenizer {pre_tokenizer!r} is not known (known: {known}); load this model from a Hugging Face "
            "folder, whose tokenizer.json is complete"
        )
    vocabulary = {token: index for index, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    # LLaMA 3 takes a word that is a token as it is, though its merges might not lead there.
    model = models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=pre_tokenizer == "llama-bpe")  # pyright: ignore[reportArgumentType]
    tokenizer = tokenizers.Tokenizer(model)
    if pre_tokenizer == "qwen2":  # Qwen's published tokenizer composes characters first
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[pre_tokenizer]()
    tokenizer.decoder = decoders.ByteLevel()
    mark_tokens(tokenizer, tokens, token_types, normalized=False)
    return tokenizer


def mark_tokens(
    tokenizer: tokenizers.Tokenizer, tokens: Sequence[str], token_types: Sequence[int], normalized: bool
) -> None:
    """Makes the tokens of the type CONTROL special, and those of the type USER_DEFINED whole wherever they occur;
    `normalized`: the latter are looked for in the normalised text."""
    for kind, special in ((CONTROL, True), (USER_DEFINED, False)):
        chosen = [token for token, token_type in zip(tokens, token_types, strict=True) if token_type == kind]
        added = [AddedToken(token, special=special, normalized=normalized and not special) for token in chosen]
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)(added)


def add_bos_and_eos(tokenizer: tokenizers.Tokenizer, first: str | None, last: str | None) -> None:
    """Sets the special tokens that `encode(..., special=True)` puts before and after a text."""
    if first or last:
        pieces = [piece for piece in (first, "$A", last) if piece]
        ids = [(token, tokenizer.token_to_id(token)) for token in {first, last} - {None} if token]
        tokenizer.post_processor = processors.TemplateProcessing(single=pieces, special_tokens=ids)


def _gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _default() -> pre_tokenizers.PreTokenizer:
    """llama.cpp's fallback: GPT-2's words between runs of punctuation, with numbers in groups of three."""
    words = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
    return isolate(r"[\p{P}\$\+<=>\^~\|]+", words, r"\p{N}+", r"[0-9][0-9][0-9]")


def isolate(*patterns: str) -> pre_tokenizers.PreTokenizer:
    """Each pattern cuts what the ones before have left whole; what lies between its matches is a piece as well."""
    cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    return pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


PRE_TOKENIZERS: dict[str, Callable[[], pre_tokenizers.PreTokenizer]] = {
    "default": _default,
    "gpt-2": _gpt2,
    "llama-bpe": WordRule("gpt4", "three").pre_tokenizer,  # Dubey et al. 2024
    "qwen2": WordRule("gpt4", "one").pre_tokenizer,
    # GPT-2's words, with every digit a word of its own.
    "smollm": lambda: pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()]),
}
