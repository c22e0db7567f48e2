"""Texts as they are, without extraction: for what learns from characters rather than from documents."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from lmworks.corpus.extract.charset import well_formed
from lmworks.corpus.sources.files import FoundFile, NoSourceError, find_files
from lmworks.records import RejectedRecord

_PIECE = 1 << 24  # characters of a file that are a text of their own, about; so no file has to fit into memory
_LONGEST = 1 << 28  # characters of a line or piece without a place to cut it


def plain_texts(
    sources: Sequence[str],
    base: Path | None = None,
    exclude: Sequence[str] = (),
    left_out: list[RejectedRecord] | None = None,
) -> Iterator[str]:
    """The contents of all files of `sources` (folders, files, globs), in a fixed order; of .jsonl files the `text` of
    every row. Files that are not UTF-8, or whose first row has no `text`, are added to `left_out`; a later row without
    one is a ValueError, and so is the first where there is no `left_out`. NoSourceError for a source that stands for no
    file.

    A large file comes in pieces, cut behind a line break with something other than a space on either side, where all
    rules that cut words cut as well; after 268 million characters without such a place, where it is.
    """
    for found in find_files(sources, exclude, base or Path.cwd()):
        begun = False
        if isinstance(found, FoundFile):
            try:
                for text in _rows(found.path) if found.path.suffix == ".jsonl" else _pieces(found.path):
                    begun = True
                    yield text
                continue
            except UnicodeDecodeError as error:
                found = RejectedRecord(found.uri, f"not UTF-8: {error.reason} at byte {error.start}")
            except ValueError as error:
                if begun or left_out is None:
                    raise
                found = RejectedRecord(found.uri, str(error.__cause__))
        if left_out is not None:
            left_out.append(found)


def required_texts(
    sources: Sequence[str],
    base: Path | None = None,
    exclude: Sequence[str] = (),
    left_out: list[RejectedRecord] | None = None,
) -> Iterator[str]:
    """`plain_texts`; and NoSourceError that says what the sources hold instead, where none of it was a text."""
    left_out = [] if left_out is None else left_out
    found = False
    for text in plain_texts(sources, base, exclude, left_out):
        found = found or bool(text)
        yield text
    if not found:
        reasons = Counter(each.reason.split(":")[0] for each in left_out)
        told = "; ".join(f"{count:,} × {reason}" for reason, count in reasons.most_common(5)) or "all files are empty"
        example = f", such as {left_out[0].uri}" if left_out else ""
        raise NoSourceError(f"there is no text in {', '.join(sources)}: {told}{example}")


def _rows(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="\n") as stream:
        number = 0
        while line := stream.readline(_LONGEST):
            number += 1
            if not line.strip():
                continue
            try:
                if len(line) == _LONGEST:
                    raise ValueError(f"a line of {_LONGEST:,} characters or more")
                text = _text_of(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
            yield text


def _text_of(line: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'not a JSON object with a "text": {error}') from error
    if not isinstance(row, dict) or "text" not in row:
        is_conversation = isinstance(row, dict) and "messages" in row
        hint = "; a conversation is no text, and data.tokenize takes those" if is_conversation else ""
        raise ValueError(f'not a JSON object with a "text"{hint}')
    if not isinstance(text := row["text"], str):
        raise ValueError(f'"text" is a {type(text).__name__}, not a string')
    return well_formed(text)


def _pieces(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="") as stream:
        held = ""
        while read := stream.read(_PIECE):
            searched = len(held)
            held += read
            if len(held) >= _PIECE and (cut := _last_cut(held, searched)):
                yield held[:cut]
                held = held[cut:]
            elif len(held) >= _LONGEST:
                yield held
                held = ""
        if held:
            yield held


def _last_cut(text: str, searched: int = 0) -> int:
    """Behind the last line break between two characters that are no spaces; 0 where there is none, or only one among
    the first `searched` characters, in which there is none."""
    start = max(1, searched - 1)
    cut = text.rfind("\n", start, len(text) - 1)
    while cut > 0 and (text[cut - 1].isspace() or not text[cut + 1].isascii() or not text[cut + 1].isalnum()):
        cut = text.rfind("\n", start, cut)
    return cut + 1 if cut > 0 else 0
