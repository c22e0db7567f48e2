"""The tokenizer in a GGUF file's metadata, in both directions."""

import json
from collections.abc import Mapping
from typing import Any

from lmworks.tokenizer.byte_level import (
    BYTE,
    CONTROL,
    NORMAL,
    PRE_TOKENIZERS,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    add_bos_and_eos,
    byte_level_bpe,
)
from lmworks.tokenizer.pre_tokenizer import steps_of
from lmworks.tokenizer.sentence_piece import sentence_piece_bpe
from lmworks.tokenizer.tokenizer import Tokenizer

_PREFIX = "tokenizer.ggml."
_ROLES = {
    "bos_token": "bos",
    "eos_token": "eos",
    "unk_token": "unknown",
    "pad_token": "padding",
    "sep_token": "seperator",  # sic: the format's own spelling
    "mask_token": "mask",
    "cls_token": "cls",
}
_ENDS_OF_TURN = ("eot", "eom")


def read_tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    """ValueError names what is missing, or is neither byte-level nor SentencePiece BPE."""
    values = {key.removeprefix(_PREFIX): value for key, value in metadata.items() if key.startswith(_PREFIX)}
    kind, pre = values.get("model"), values.get("pre", "default")
    try:
        tokens, types = values["tokens"], values["token_type"]
        if kind == "gpt2":
            backend = byte_level_bpe(tokens, values["merges"], types, pre)
        elif kind == "llama":
            backend = sentence_piece_bpe(tokens, values["scores"], types, values.get("add_space_prefix", True))
        else:
            raise ValueError(
                f"{_PREFIX}model = {kind!r} is not supported; supported: 'gpt2' and 'llama', which are BPE"
            )
    except KeyError as error:
        raise ValueError(f"the GGUF file has no {_PREFIX}{error.args[0]}") from error
    except ValueError:
        raise
    except Exception as error:  # what the `tokenizers` library raises, for merges whose parts are no tokens
        raise ValueError(f"the GGUF file's tokenizer is damaged: {error}") from error
    ids = {
        name: values[f"{name}_token_id"] for name in (*_ROLES.values(), *_ENDS_OF_TURN) if f"{name}_token_id" in values
    }
    wrong = {name: index for name, index in ids.items() if index >= len(tokens)}
    if wrong:
        raise ValueError(f"token ids {wrong} lie outside the vocabulary of {len(tokens)}")
    roles = {role: tokens[ids[name]] for role, name in _ROLES.items() if name in ids}
    framed = values.get("add_bos_token", kind == "llama" or pre == "llama-bpe"), values.get("add_eos_token", False)
    add_bos_and_eos(
        backend, *(roles.get(role) if is_framed else None for role, is_framed in zip(_ROLES, framed, strict=False))
    )
    return Tokenizer(backend, roles, [ids[name] for name in _ENDS_OF_TURN if name in ids])


# ---------------------------------------------------------------------------------------------------------------------
# Writing


def write_tokenizer(tokenizer: Tokenizer, rows: int) -> dict[str, Any]:
    """The metadata of a tokenizer, whose vocabulary is filled up with unused tokens to the embedding's `rows`.

    ValueError names the part that llama.cpp has no counterpart for.
    """
    state = json.loads(tokenizer.backend.to_str())
    model = state["model"]
    if model["type"] != "BPE":
        raise ValueError(f"a GGUF file can hold a tokenizer of the type BPE, not {model['type']}")
    names = {index: token for token, index in tokenizer.backend.get_vocab(with_added_tokens=True).items()}
    tokens = [names.get(index, f"[PAD{index}]") for index in range(max(rows, max(names) + 1))]
    merges = [" ".join(merge) for merge in model["merges"]]
    byte_level = (state["decoder"] or {}).get("type") == "ByteLevel"
    types = {token["content"]: CONTROL if token["special"] else USER_DEFINED for token in state["added_tokens"]}
    if not byte_level:
        types |= {f"<0x{byte:02X}>": BYTE for byte in range(256)} | {model["unk_token"]: UNKNOWN}
    values: dict[str, Any] = {
        "model": "gpt2" if byte_level else "llama",
        "pre": _pre_tokenizer(state) if byte_level else "default",
        "tokens": tokens,
        "token_type": [types.get(token, NORMAL) if i in names else UNUSED for i, token in enumerate(tokens)],
        "add_space_prefix": not byte_level and _space_prefix(state),
    }
    if byte_level:
        values["merges"] = merges
    else:
        rank = {merge.replace(" ", ""): -float(index) for index, merge in reversed(list(enumerate(merges)))}
        values["scores"] = [rank.get(token, -float(len(merges))) for token in tokens]
    ends = [index for index in tokenizer.eos_ids if index != tokenizer.eos_id]
    if len(ends) > len(_ENDS_OF_TURN):
        raise ValueError(f"a GGUF file has no place for {len(tokenizer.eos_ids)} tokens that end a text")
    values |= {f"{name}_token_id": index for name, index in zip(_ENDS_OF_TURN, ends, strict=False)}
    for role, token in tokenizer.roles.items():
        values[f"{_ROLES[role]}_token_id"] = tokenizer.backend.token_to_id(token)
    before, after = tokenizer.frame
    values["add_bos_token"], values["add_eos_token"] = before == [tokenizer.bos_id], after == [tokenizer.eos_id]
    if len(before) != values["add_bos_token"] or len(after) != values["add_eos_token"]:
        raise ValueError(f"a GGUF file can frame a text by the tokens that begin and end one, not by {before, after}")
    return {_PREFIX + key: value for key, value in values.items()}


def _pre_tokenizer(state: dict[str, Any]) -> str:
    """GGUF's name for the rule that cuts a text into words."""
    stored = _steps(state["pre_tokenizer"]), _steps(state["normalizer"])
    for name in PRE_TOKENIZERS:
        known = json.loads(byte_level_bpe([], [], [], name).to_str())
        if stored == (_steps(known["pre_tokenizer"]), _steps(known["normalizer"])):
            return name
    raise ValueError(f"GGUF has no name that is known here for the pre-tokenizer {state['pre_tokenizer']}")


def _space_prefix(state: dict[str, Any]) -> bool:
    """True where a text begins with a space of its own, as SentencePiece's."""
    prefix = False
    for step in (*_steps(state["normalizer"]), *_steps(state["pre_tokenizer"])):
        match step:
            case {"type": "Prepend", "prepend": "▁"}:
                prefix = True
            case {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme}:
                prefix = scheme != "never"
            case {"type": "Replace", "content": ""}:  # of the prefix before a text that is one user-defined symbol
                pass
            case {"type": "Replace", "content": "▁"} | {"type": "Split", "pattern": {"String": " "}}:
                pass
            case _:
                raise ValueError(f"llama.cpp's SentencePiece has no counterpart of {step}")
    return prefix


def _steps(component: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The steps of a normaliser or pre-tokenizer, without what only offsets depend on."""
    return [{key: value for key, value in step.items() if key != "trim_offsets"} for step in steps_of(component)]
