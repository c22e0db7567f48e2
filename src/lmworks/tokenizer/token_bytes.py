"""The bytes that each token stands for, which joined are the UTF-8 of the decoded text."""

import json
from collections.abc import Callable, Iterator

from lmworks.tokenizer.tokenizer import Tokenizer

_SPACE = "▁"  # SentencePiece's


def token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes of every token, in the order of the ids; b"" for what is no text: special and unknown tokens, gaps.

    Tokens of the SentencePiece kind keep the space they begin with, though decoding drops the one before the first word
    of a text (`drops_first_space`). ValueError for a tokenizer whose tokens are not plain bytes (WordPiece).
    """
    state = json.loads(tokenizer.backend.to_str())
    spell = _speller(state)
    added = {token["content"]: token["special"] for token in state["added_tokens"]}
    silent = {*tokenizer.roles.values(), *(name for name, special in added.items() if special)}
    silent.add(state["model"].get("unk_token") or "")
    vocabulary = tokenizer.backend.get_vocab(with_added_tokens=True)
    spelled = [b""] * (max(vocabulary.values()) + 1)
    for name, token in vocabulary.items():
        spelled[token] = b"" if name in silent else spell(name)
    return spelled


def drops_first_space(tokenizer: Tokenizer, spelled: list[bytes]) -> bool:
    """Whether decoding drops a space that the first token begins with; `spelled` is `token_bytes(tokenizer)`."""
    probe = next((token for token, text in enumerate(spelled) if text[:1] == b" " and text.strip().isalpha()), None)
    return probe is not None and not tokenizer.decode([probe]).startswith(" ")


def _speller(state: dict) -> Callable[[str], bytes]:
    kinds = {step["type"] for step in _steps(state["decoder"])}
    if "ByteLevel" in kinds:
        return _byte_level
    if "Metaspace" in kinds or {"Replace", "Fuse"} <= kinds:
        return _sentence_piece
    raise ValueError(
        f"the bytes of tokens are not known for the decoder {sorted(kinds)}: use a model whose tokenizer is byte-level "
        "or SentencePiece BPE"
    )


def _steps(part: dict | None) -> Iterator[dict]:
    if part is not None:
        yield from part.get("decoders") or [part]


def _byte_level(name: str) -> bytes:
    """A token of the user's own may hold letters that stand for no byte; then it is its own text."""
    if all(letter in _BYTES for letter in name):
        return bytes(_BYTES[letter] for letter in name)
    return name.encode("utf-8", "surrogatepass")


def _sentence_piece(name: str) -> bytes:
    if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
        return bytes([int(name[3:5], 16)])
    return name.replace(_SPACE, " ").encode("utf-8", "surrogatepass")


def byte_letters() -> dict[str, int]:
    """GPT-2's letter for each byte (Radford et al. 2019): itself where it is visible, else one from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(0x100 + place): byte for place, byte in enumerate(hidden)}


_BYTES = byte_letters()
