"""Pairs of texts, what an embedding model learns from: in files, and as groups of token sequences."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmworks.artefact import hash_json
from lmworks.config import from_mapping
from lmworks.data.conversations import parse_json
from lmworks.data.files import FoundFile, NoSourceError, find_files
from lmworks.data.token_groups import TokenGroup, TokenGroups, join_groups
from lmworks.records import LeftOut, TextPair
from lmworks.tokenizer.tokenizer import Tokenizer

SUFFIX = ".jsonl"
_AT_ONCE = 4096  # pairs that go to the tokenizer, and its threads, at once


def pair_files(sources: Sequence[str], base: Path, left_out: list[LeftOut] | None = None) -> list[Path]:
    """The .jsonl files of `sources` (folders, files, globs, relative to `base`), in a fixed order; what else they hold
    is added to `left_out`. NoSourceError where there is no such file."""
    found = list(find_files(sources, (), base))
    files = [each for each in found if isinstance(each, FoundFile)]
    if left_out is not None:
        left_out += [each for each in found if isinstance(each, LeftOut)]
        left_out += [LeftOut(each.uri, f"pairs are {SUFFIX} files") for each in files if each.path.suffix != SUFFIX]
    chosen = [each.path for each in files if each.path.suffix == SUFFIX]
    if not chosen:
        raise NoSourceError(f"no {SUFFIX} file with pairs in {', '.join(sources) or 'nothing: set pairs'}")
    return chosen


def read_pairs(files: Sequence[Path]) -> Iterator[TextPair]:
    """A pair in each line that is not empty, in order: `{"anchor": ..., "positive": ..., "negatives": [...]}`.

    ValueError says which line is none, and why.
    """
    for path in files:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield parse_pair(line, f"{path}, line {number}")


def parse_pair(line: bytes | str, where: str) -> TextPair:
    """ValueError for a line that is no JSON object of a pair, an empty text, and half a surrogate pair, which no
    tokenizer can read; it begins with `where`."""
    try:
        found: Any = parse_json(line if isinstance(line, str) else line.decode("utf-8-sig"), where)
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8 ({error.reason} at byte {error.start} of the line)") from error
    if not isinstance(found, Mapping):
        raise ValueError(f'{where}: a pair is an object, {{"anchor": ..., "positive": ...}}, got {found!r:.100}')
    pair = from_mapping(TextPair, found, [where])
    for text in (pair.anchor, pair.positive, *pair.negatives):
        if not text.strip():
            raise ValueError(f"{where}: a text of the pair is empty")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = ascii(text[error.start])[1:-1]
            raise ValueError(f"{where} holds {half}, one half of a character written as two: leave it out") from error
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
