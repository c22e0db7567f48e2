"""Vocabularies and walks for the tests of constrained decoding."""

import json
import random
import tarfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from lmworks.generate.constrained_decoding import Compiled, ConstraintCompiler, Matcher
from lmworks.generate.constraint import ConstraintError, JsonSchema
from lmworks.tokenizer.byte_level import BYTE, CONTROL, NORMAL, UNKNOWN
from lmworks.tokenizer.sentence_piece import sentence_piece_bpe
from lmworks.tokenizer.token_bytes import token_bytes
from lmworks.tokenizer.tokenizer import Tokenizer

CLOSING = frozenset((b'"', b"}", b"]", b"1", b"e", b"."))


def sentence_piece_tokenizer() -> Tokenizer:
    """As LLaMA 2: a space of its own before each text, bytes for what has no piece, three special tokens."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    pieces += [chr(code) for code in range(0x21, 0x7F)] + ["é", "日", "▁t", "he", "▁the", '":', '{"', "▁{", '▁"', "▁▁"]
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * (len(pieces) - 259)]
    roles = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return Tokenizer(sentence_piece_bpe(pieces, [-float(i) for i in range(len(pieces))], kinds, True), roles)


def allowed(matcher: Matcher) -> list[int]:
    return np.flatnonzero(np.unpackbits(matcher.mask().view(np.uint8), bitorder="little")).tolist()


def accepted(matcher: Matcher, tokens: Sequence[int]) -> int:
    """The number of first tokens that are allowed one after the other."""
    ahead = matcher.copy()
    for count, token in enumerate(tokens):
        try:
            ahead.advance(token)
        except ValueError:
            return count
    return len(tokens)


def walk(compiled: Compiled, seed: int, most: int = 400, closing: frozenset[bytes] = CLOSING) -> list[int] | None:
    """Tokens chosen at random among the allowed ones, the last of which ends the text; None if `most` do not suffice.

    Where something can be closed (by a token of `closing`) or ended, it is every other time: a uniform choice would
    hardly ever come to an end.
    """
    draw, matcher, tokens = random.Random(seed), compiled.start(), list[int]()
    ends, spelled = compiled.tokens.ends, compiled.tokens.spelled
    while not matcher.finished:
        if len(tokens) == most:
            return None
        options = allowed(matcher)
        near = [token for token in options if token in ends or spelled[token] in closing]
        token = draw.choice(near if near and draw.random() < 0.5 else options)
        matcher.advance(token)
        tokens.append(token)
    return tokens


def cut(text: str, tokenizer: Tokenizer, seed: int) -> list[int]:
    """Tokens that spell the text, each chosen at random among all that fit."""
    draw, rest, tokens = random.Random(seed), text.encode(), list[int]()
    spelled = token_bytes(tokenizer)
    while rest:
        tokens.append(draw.choice([token for token, part in enumerate(spelled) if part and rest.startswith(part)]))
        rest = rest[len(spelled[tokens[-1]]) :]
    return tokens


def texts_of_walks(compiled: Compiled, count: int, least: int, closing: frozenset[bytes] = CLOSING) -> list[str]:
    """What the walks with the seeds from 0 on decode to; AssertionError when fewer than `least` come to an end."""
    walks: Sequence[list[int] | None] = [walk(compiled, seed, closing=closing) for seed in range(count)]
    texts = [compiled.tokens.tokenizer.decode(tokens) for tokens in walks if tokens is not None]
    assert len(texts) >= least, f"only {len(texts)} of {count} walks ended"
    return texts


# The keywords that nearly every schema is made of.
CORE = (
    "additionalProperties", "allOf", "anyOf", "const", "enum", "items", "maxItems", "maxLength", "maximum", "minItems",
    "minLength", "minimum", "oneOf", "pattern", "properties", "ref", "required", "type",
)  # fmt: skip


def read_suite(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The groups of JSON-Schema-Test-Suite by the names of their files, from a folder of a draft or its archive."""
    files = {path.stem: path.read_text("utf-8") for path in folder.glob("*.json")}
    for archive in folder.glob("*.tar.gz"):
        with tarfile.open(archive) as packed:
            for member in packed:
                path, held = PurePosixPath(member.name), packed.extractfile(member)
                if held is not None and path.suffix == ".json" and "optional" not in path.parts:
                    files[path.stem] = held.read().decode()
    return {name: json.loads(text) for name, text in sorted(files.items())}


def agreement(groups: list[dict[str, Any]], compiled: Callable[[Any], Callable[[str], bool] | None]) -> Counter[str]:
    """How many instances, written compactly and with their keys as they come, are accepted as they are valid.

    `compiled` makes of a schema what says whether a text is accepted; None for one that it refuses.
    """
    counts = Counter[str]()
    for group in groups:
        accepts = compiled(group["schema"])
        for test in group["tests"]:
            text = json.dumps(test["data"], ensure_ascii=False, separators=(",", ":"))
            accepted = accepts(text) if accepts is not None else None
            counts["refused" if accepted is None else "agree" if accepted is test["valid"] else
                   "wrongly accepted" if accepted else "wrongly rejected"] += 1  # fmt: skip
    return counts


def suite_compiler(compiler: ConstraintCompiler) -> Callable[[Any], Callable[[str], bool] | None]:
    """What `agreement` asks for, of our constraints."""

    def compiled(schema: Any) -> Callable[[str], bool] | None:
        try:
            constraint = compiler.compile(JsonSchema(json.dumps(schema)))
        except ConstraintError:
            return None

        def accepts(text: str) -> bool:
            tokens = [*cut(text, compiler.tokenizer, 0), compiler.tokenizer.eos_ids[0]]
            return accepted(constraint.start(), tokens) == len(tokens)

        return accepts

    return compiled
