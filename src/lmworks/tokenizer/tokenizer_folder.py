"""The tokenizer in a Hugging Face folder: `tokenizer.json` or a SentencePiece model, roles, chat template, end tokens.

A SentencePiece model knows neither the tokens that were added to it later, nor which of them begin and end a text; both
follow from `tokenizer_config.json` and the class of the tokenizer that it names.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from lmworks.tokenizer.byte_level import add_bos_and_eos
from lmworks.tokenizer.sentence_piece import read_sentence_piece, sentence_piece_backend

CHAT_TEMPLATE = "chat_template.jinja"
ROLES = ("bos_token", "eos_token", "unk_token", "pad_token", "cls_token", "sep_token", "mask_token")
# Whether texts get the tokens that begin and end one. Other classes move ids about.
_BOS_AND_EOS = {
    None: (False, False),
    "LlamaTokenizer": (True, False),
    "GemmaTokenizer": (True, False),
    "T5Tokenizer": (False, True),
}
_SENTINELS = 100  # T5's <extra_id_0> … <extra_id_99>, the first of them last


def read_tokenizer_folder(folder: Path) -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    """The tokenizer, and its special tokens by their roles.

    FileNotFoundError where there is none, NotADirectoryError for a file; ValueError names the file that is damaged.
    """
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {folder}: give one that holds a tokenizer.json")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: give the folder that it lies in, {folder.parent}")
    path = folder / "tokenizer.json"
    config = read_json(folder / "tokenizer_config.json")
    named = read_json(folder / "special_tokens_map.json") | config
    stored = {role: named[role] for role in ROLES if named.get(role) is not None}  # a string, or a record that holds it
    roles = {role: token if isinstance(token, str) else token["content"] for role, token in stored.items()}
    if not path.exists():
        return _read_sentence_piece(_sentence_piece_path(folder), config, roles)
    try:
        return tokenizers.Tokenizer.from_file(str(path)), roles
    except Exception as error:  # the library raises no other class
        raise ValueError(f"{path.name} is damaged or of an unknown kind: {error}") from error


def read_chat_template(folder: Path) -> str | None:
    """From `chat_template.jinja`, or from `tokenizer_config.json`: one template, or a list with one named `default`."""
    if (folder / CHAT_TEMPLATE).exists():
        return (folder / CHAT_TEMPLATE).read_text(encoding="utf-8")
    template = read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):
        return {entry["name"]: entry["template"] for entry in template}.get("default")
    return template


def stated_eos_ids(config: Mapping[str, Any], generation: Mapping[str, Any]) -> list[int]:
    """End-of-text ids, by `generation_config.json` if it says so, else by `config.json`; empty where neither does."""
    stated = generation.get("eos_token_id", config.get("eos_token_id"))
    return stated if isinstance(stated, list) else [stated] if isinstance(stated, int) else []


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one when there is no such file. ValueError names a file that holds something else."""
    if not path.exists():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path.name} holds a JSON {type(document).__name__}, not an object")
    return document


# ---------------------------------------------------------------------------------------------------------------------
# SentencePiece


def _sentence_piece_path(folder: Path) -> Path:
    for name in ("tokenizer.model", "spiece.model"):
        if (folder / name).exists():
            return folder / name
    missing = f"{folder / 'tokenizer.json'} is missing: "
    for ranks in sorted(folder.glob("*.tiktoken")):
        raise FileNotFoundError(
            f"{missing}{ranks.name} does not say which encoding it is of; load it with "
            "lmworks.tokenizer.load_tiktoken(path, encoding), and save that tokenizer into this folder"
        )
    raise FileNotFoundError(f"{missing}save the tokenizer in the `tokenizers` format (a fast tokenizer)")


def _read_sentence_piece(
    path: Path, config: Mapping[str, Any], roles: Mapping[str, str]
) -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    """`config` is `tokenizer_config.json`; ValueError names what is not supported."""
    if path.read_bytes()[:1] != b"\n":  # the first field of a model
        raise ValueError(
            f"{path.name} is no SentencePiece model; if it is a list of ranks, as LLaMA 3's, take the tokenizer.json "
            "of a converted folder"
        )
    kind = config.get("tokenizer_class")
    kind = kind.removesuffix("Fast") if kind else None
    if kind not in _BOS_AND_EOS:
        known = ", ".join(name for name in _BOS_AND_EOS if name)
        raise ValueError(f"tokenizer_class {kind} is not supported without a tokenizer.json (supported: {known})")
    model = read_sentence_piece(path)
    backend = sentence_piece_backend(model)
    try:
        tokens = _added_tokens(kind, config, read_json(path.with_name("added_tokens.json")), len(model.pieces))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the tokens that {path.name} is to be given are damaged: {error!r}") from error
    for index, token in tokens:
        (backend.add_special_tokens if token.special else backend.add_tokens)([token])
        if (actual := backend.token_to_id(token.content)) != index:
            raise ValueError(
                f"the added token {token.content!r} is to have the id {index}, and next to {path.name} it gets "
                f"{actual}: ids of added tokens that leave gaps are not supported"
            )
    named = {**model.roles, **roles}
    named = {role: token for role, token in named.items() if role in roles or backend.token_to_id(token) is not None}
    first, last = (
        config.get(f"add_{end}_token") if config.get(f"add_{end}_token") is not None else framed
        for end, framed in zip(("bos", "eos"), _BOS_AND_EOS[kind], strict=True)
    )
    add_bos_and_eos(backend, named.get("bos_token") if first else None, named.get("eos_token") if last else None)
    return backend, named


def _added_tokens(
    kind: str | None, config: Mapping[str, Any], added: Mapping[str, int], size: int
) -> list[tuple[int, AddedToken]]:
    """The tokens that are not the model's own, with their ids, in the order of these; `added` gives names their ids."""
    records = config.get("added_tokens_decoder")
    if records:
        tokens = [(int(index), _token(record)) for index, record in records.items()]
    elif added:
        special = set(config.get("additional_special_tokens") or [])
        tokens = [(index, AddedToken(name, special=name in special, normalized=False)) for name, index in added.items()]
    elif kind == "T5Tokenizer":
        count = config.get("extra_ids", _SENTINELS)
        names = [f"<extra_id_{number}>" for number in reversed(range(count))]
        tokens = [(size + offset, AddedToken(name, special=True)) for offset, name in enumerate(names)]
    else:
        tokens = []
    return sorted(tokens, key=lambda token: token[0])


def _token(record: Mapping[str, Any]) -> AddedToken:
    """Looked for in the text as it is, whatever the record says: so does the tokenizer that reads SentencePiece."""
    flags = {name: bool(record.get(name, False)) for name in ("single_word", "lstrip", "rstrip", "special")}
    return AddedToken(record["content"], normalized=False, **flags)
