"""Vocabularies and walks for the tests of constrained decoding."""

import random
from collections.abc import Sequence

import numpy as np

from lmworks.generate.constrained_decoding import Compiled, Matcher
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
