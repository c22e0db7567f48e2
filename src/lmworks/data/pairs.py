"""Pairs of texts, what an embedding model learns from: in files, and as groups of token sequences."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lmworks.artefact import hash_json
from lmworks.config import from_mapping
from lmworks.data.conversations import check_encodable, conversation_files, decoded, parse_json, rows_of
from lmworks.data.token_groups import TokenGroup, TokenGroups, join_groups
from lmworks.records import LeftOut, TextPair
from lmworks.tokenizer.tokenizer import Tokenizer

SUFFIX = ".jsonl"
PairT = TypeVar("PairT", bound=TextPair)
_AT_ONCE = 4096  # pairs that go to the tokenizer, and its threads, at once


def pair_files(sources: Sequence[str], base: Path, left_out: list[LeftOut] | None = None) -> list[Path]:
    """The .jsonl files of `sources`, as `conversation_files`."""
    return conversation_files(sources, base, left_out, (SUFFIX,), "pairs")


def read_pairs(files: Sequence[Path]) -> Iterator[TextPair]:
    """A pair in each line that is not empty, in order: `{"anchor": ..., "positive": ..., "negatives": [...]}`.

    ValueError says which line is none, and why.
    """
    for path in files:
        yield from (parse_pair(line, where) for where, line in rows_of(path))


def parse_pair(line: bytes | str, where: str) -> TextPair:
    """ValueError for a line that is no JSON object of a pair, an empty text, and half a surrogate pair, which no
    tokenizer can read; it begins with `where`."""
    return pair_of(TextPair, line, where)


def pair_of(kind: type[PairT], line: bytes | str, where: str) -> PairT:
    """`parse_pair` of a pair that knows more."""
    found: Any = parse_json(line if isinstance(line, str) else decoded(line, where), where)
    if not isinstance(found, Mapping):
        raise ValueError(f'{where}: a pair is an object, {{"anchor": ..., "positive": ...}}, got {found!r:.100}')
    pair = from_mapping(kind, found, [where])
    for text in (pair.anchor, pair.positive, *pair.negatives):
        if not text.strip():
            raise ValueError(f"{where}: a text of the pair is empty")
    check_encodable(found, where)
    return pair


def is_held_out(pair: TextPair, share: float) -> bool:
    """Whether a pair is kept from training. Its anchor decides: all answers to one question are on one side, and stay
    there when pairs are added."""
    return int(hash_json(pair.anchor)[:13], 16) / 16**13 < share  # 52 bits, which a float holds exactly


def pair_groups(pairs: Sequence[TextPair], tokenizer: Tokenizer, length: int) -> TokenGroups:
    """A group for each pair: anchor, positive, negatives, framed as the model's texts are. A text of more than `length`
    tokens loses its end, which `TokenGroups.cut` counts. ValueError for a text without a token."""
    groups, cut = [], 0
    for start in range(0, len(pairs), _AT_ONCE):
        some = [(pair.anchor, pair.positive, *pair.negatives) for pair in pairs[start : start + _AT_ONCE]]
        texts = [text for own in some for text in own]
        rows, shortened = tokenizer.encode_truncated(texts, length)
        if not all(rows):
            raise ValueError(f"a text has no token in this vocabulary: {texts[[len(r) for r in rows].index(0)][:60]!r}")
        cut += shortened
        encoded = iter(rows)
        groups += [TokenGroup([np.array(next(encoded), np.int32) for _ in own]) for own in some]
    return join_groups(groups, cut)
