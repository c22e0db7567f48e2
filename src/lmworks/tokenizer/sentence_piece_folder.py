"""A Hugging Face folder whose tokenizer is a SentencePiece model: what `tokenizer.json` would say, from other files.

The model's file knows neither the tokens that were added to it later, nor which of them frame a text; both follow from
`tokenizer_config.json` and the class of the tokenizer that it names.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from lmworks.tokenizer.byte_level import frame
from lmworks.tokenizer.sentence_piece_model import read_sentence_piece, sentence_piece_backend

# Whether a text is framed by the tokens that begin and end one. Other classes move ids about.
_FRAMES = {
    None: (False, False),
    "LlamaTokenizer": (True, False),
    "GemmaTokenizer": (True, False),
    "T5Tokenizer": (False, True),
}
_SENTINELS = 100  # T5's <extra_id_0> … <extra_id_99>, the first of them last


def read_folder(
    path: Path, config: Mapping[str, Any], added: Mapping[str, int], roles: Mapping[str, str]
) -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    """The tokenizer and what its special tokens are for.

    `path` is the SentencePiece model, `config` is `tokenizer_config.json`, `added` is `added_tokens.json` (a token's
    id), `roles` what these files say of special tokens. ValueError names what is not supported.
    """
    if path.read_bytes()[:1] != b"\n":  # the first field of a model
        raise ValueError(
            f"{path.name} is no SentencePiece model; if it is a list of ranks, as LLaMA 3's, take the tokenizer.json "
            "of a converted folder"
        )
    kind = config.get("tokenizer_class")
    kind = kind.removesuffix("Fast") if kind else None
    if kind not in _FRAMES:
        known = ", ".join(name for name in _FRAMES if name)
        raise ValueError(f"tokenizer_class {kind} is not supported without a tokenizer.json (supported: {known})")
    model = read_sentence_piece(path)
    backend = sentence_piece_backend(model)
    try:
        tokens = _added(kind, config, added, len(model.pieces))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the tokens that {path.name} is to be given are damaged: {error!r}") from error
    _add(backend, path, tokens)
    named = {**model.roles, **roles}
    named = {role: token for role, token in named.items() if role in roles or backend.token_to_id(token) is not None}
    first, last = (
        config.get(f"add_{place}_token") if config.get(f"add_{place}_token") is not None else framed
        for place, framed in zip(("bos", "eos"), _FRAMES[kind], strict=True)
    )
    frame(backend, named.get("bos_token") if first else None, named.get("eos_token") if last else None)
    return backend, named


def _added(
    kind: str | None, config: Mapping[str, Any], added: Mapping[str, int], size: int
) -> list[tuple[int, AddedToken]]:
    """The tokens that are not the model's own, with their ids, in the order of these."""
    records = config.get("added_tokens_decoder")
    if records:
        tokens = [(int(index), _token(record)) for index, record in records.items()]
    elif added:
        special = set(config.get("additional_special_tokens") or [])
        tokens = [(index, AddedToken(name, special=name in special, normalized=False)) for name, index in added.items()]
    elif kind == "T5Tokenizer":
        count = config.get("extra_ids", _SENTINELS)
        names = [f"<extra_id_{number}>" for number in reversed(range(count))]
        tokens = [(size + place, AddedToken(name, special=True)) for place, name in enumerate(names)]
    else:
        tokens = []
    return sorted(tokens, key=lambda token: token[0])


def _token(record: Mapping[str, Any]) -> AddedToken:
    """Looked for in the text as it is, whatever the record says: so does the tokenizer that reads SentencePiece."""
    flags = {name: bool(record.get(name, False)) for name in ("single_word", "lstrip", "rstrip", "special")}
    return AddedToken(record["content"], normalized=False, **flags)


def _add(backend: tokenizers.Tokenizer, path: Path, tokens: list[tuple[int, AddedToken]]) -> None:
    for index, token in tokens:
        (backend.add_special_tokens if token.special else backend.add_tokens)([token])
        if backend.token_to_id(token.content) != index:
            raise ValueError(
                f"the added token {token.content!r} is to have the id {index}, and beside {path.name} it gets "
                f"{backend.token_to_id(token.content)}: ids of added tokens that leave gaps are not supported"
            )
