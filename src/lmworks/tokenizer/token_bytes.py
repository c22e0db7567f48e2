"""The names of a vocabulary's tokens, and the bytes and texts they stand for."""

import json
import re

import numpy as np

from lmworks.tokenizer.byte_level import byte_letters
from lmworks.tokenizer.pre_tokenizer import SPACE, steps_of
from lmworks.tokenizer.tokenizer import Tokenizer

_LETTERS = byte_letters()


def token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes of every token in the order of the ids, which joined are the UTF-8 of the decoded text.

    b"" for what is no text: special and unknown tokens, gaps.

    Tokens of the SentencePiece kind keep the space they begin with, though decoding drops the one before the first word
    of a text (`drops_first_space`). ValueError for a tokenizer whose tokens are not plain bytes (WordPiece).
    """
    state = json.loads(tokenizer.backend.to_str())
    kinds = {step["type"] for step in steps_of(state["decoder"])}
    if "ByteLevel" not in kinds and "Metaspace" not in kinds and not {"Replace", "Fuse"} <= kinds:
        raise ValueError(
            f"the bytes of tokens are not known for the decoder {sorted(kinds)}: use a model whose tokenizer is "
            "byte-level or SentencePiece BPE"
        )
    spell = _byte_level if "ByteLevel" in kinds else _sentence_piece
    added = {token["content"]: token["special"] for token in state["added_tokens"]}
    silent = {*tokenizer.roles.values(), *(name for name, special in added.items() if special)}
    silent.add(state["model"].get("unk_token") or "")
    vocabulary = tokenizer.backend.get_vocab(with_added_tokens=True)
    spelled = [b""] * (max(vocabulary.values()) + 1)
    for name, token in vocabulary.items():
        spelled[token] = b"" if name in silent else spell(name)
    return spelled


def drops_first_space(tokenizer: Tokenizer, spelled: list[bytes]) -> bool:
    """True where decoding drops a space that the first token begins with; `spelled` is `token_bytes(tokenizer)`."""
    probe = next((token for token, text in enumerate(spelled) if text[:1] == b" " and text.strip().isalpha()), None)
    return probe is not None and not tokenizer.decode([probe]).startswith(" ")


def _byte_level(name: str) -> bytes:
    """A token of the user's own may hold letters that stand for no byte; then it is its own text."""
    if all(letter in _LETTERS for letter in name):
        return bytes(_LETTERS[letter] for letter in name)
    return name.encode("utf-8", "surrogatepass")


def _sentence_piece(name: str) -> bytes:
    if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
        return bytes([int(name[3:5], 16)])
    return name.replace(SPACE, " ").encode("utf-8", "surrogatepass")


def is_utf8(spelled: bytes) -> bool:
    try:
        spelled.decode()
    except UnicodeDecodeError:
        return False
    return True


def token_names(tokenizer: Tokenizer) -> list[str | None]:
    """The name of each id in the vocabulary, None for an id without a token."""
    return [tokenizer.backend.id_to_token(index) for index in range(tokenizer.vocabulary_size)]


def token_texts(tokenizer: Tokenizer) -> list[str | bytes]:
    """The text of each token, or its bytes where these are no whole characters; "" for special tokens and gaps."""
    try:
        spelled = token_bytes(tokenizer)
    except ValueError:  # WordPiece: tokens are letters, and a prefix marks those that continue a word
        model = json.loads(tokenizer.backend.to_str())["model"]
        prefix = model.get("continuing_subword_prefix") or ""
        return [(name or "").removeprefix(prefix) for name in token_names(tokenizer)]
    return [text.decode() if is_utf8(text) else text for text in spelled]


def partial_tokens(tokenizer: Tokenizer) -> np.ndarray:
    """(ids,) bool: tokens that are no whole characters, and SentencePiece's tokens of single bytes (`<0x0A>`)."""
    names = token_names(tokenizer)
    falls_back = json.loads(tokenizer.backend.to_str())["model"].get("byte_fallback", False)
    single = [falls_back and re.fullmatch(r"<0x[0-9A-F]{2}>", name or "") is not None for name in names]
    incomplete = [isinstance(text, bytes) for text in token_texts(tokenizer)]
    return np.array(single, dtype=bool) | np.array(incomplete, dtype=bool)


def unknown_ids(tokenizer: Tokenizer) -> set[int]:
    """The ids that stand for whatever the vocabulary lacks."""
    model = json.loads(tokenizer.backend.to_str())["model"]
    names = {tokenizer.roles.get("unk_token"), model.get("unk_token")} - {None}
    indices = {tokenizer.backend.token_to_id(name) for name in names if name is not None}
    return {index for index in (*indices, model.get("unk_id")) if index is not None}


def spelled_tokens(tokenizer: Tokenizer) -> list[str]:
    """Each token as it is shown: its text in quotes with what cannot be seen escaped, bytes in hexadecimal digits, and
    special tokens by their names. WordPiece's pieces keep the mark that they continue a word."""
    names, texts = token_names(tokenizer), token_texts(tokenizer)
    if type(tokenizer.backend.model).__name__ == "WordPiece":
        return [repr(name) for name in names]
    return [
        text.hex(" ").upper() if isinstance(text, bytes) else repr(text) if text else (name or "no token")
        for name, text in zip(names, texts, strict=True)
    ]
