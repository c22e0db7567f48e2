"""Texts as they are, without extraction: for what learns from characters rather than from documents."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from lmworks.corpus.extract.charset import well_formed
from lmworks.corpus.sources.files import FoundFile, NoSourceError, find_files
from lmworks.records import RejectedRecord

_PIECE = 1 << 24  # characters of a file that are a text of their own, about; so no file has to fit into memory


def plain_texts(sources: Sequence[str], rejected: list[RejectedRecord], base: Path | None = None) -> Iterator[str]:
    """The contents of all files of `sources` (folders, files, globs), in a fixed order; of .jsonl files the `text` of
    every row. Files that are not UTF-8, or whose first row has no `text`, are added to `rejected`; ValueError where a
    file turns out so only when some of it was used. NoSourceError for a source that stands for no file.

    A large file comes in pieces, cut behind a line break with something other than a space on either side, where all
    rules that cut words cut as well.
    """
    for found in find_files(sources, (), base or Path.cwd()):
        begun = False
        if isinstance(found, FoundFile):
            try:
                for text in _rows(found.path) if found.path.suffix == ".jsonl" else _pieces(found.path):
                    begun = True
                    yield text
                continue
            except UnicodeDecodeError as error:
                reason = f"not UTF-8: {error.reason}"
                if begun:
                    raise ValueError(f"{found.path} is {reason}, after valid text: convert it") from error
            except ValueError as error:
                reason = str(error.__cause__)
                if begun:
                    raise
            found = RejectedRecord(found.uri, reason)
        rejected.append(found)


def required_texts(sources: Sequence[str], rejected: list[RejectedRecord]) -> Iterator[str]:
    """`plain_texts`; and NoSourceError that says what the sources hold instead, where none of it was a text."""
    found = False
    for text in plain_texts(sources, rejected):
        found = found or bool(text)
        yield text
    if not found:
        reasons = Counter(each.reason.split(":")[0] for each in rejected)
        named = "; ".join(f"{count:,} × {reason}" for reason, count in reasons.most_common(5)) or "all files are empty"
        example = f", such as {rejected[0].uri}" if rejected else ""
        raise NoSourceError(f"there is no text in {', '.join(sources)}: {named}{example}")


def _rows(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="\n") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                try:
                    text = _text_of(line)
                except ValueError as error:
                    raise ValueError(f"{path}, line {number}: {error}") from error
                yield text


def _text_of(line: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'not a JSON object with a "text": {error}') from error
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        is_conversation = isinstance(row, dict) and "messages" in row
        hint = "; a conversation is no text, and data.tokenize takes those" if is_conversation else ""
        raise ValueError(f'not a JSON object with a "text"{hint}')
    return well_formed(row["text"])


def _pieces(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="\n") as stream:
        held: list[str] = []
        size = 0
        for line in stream:
            if size >= _PIECE and held[-1][-2:-1].strip() and line[0].isascii() and line[0].isalnum():
                yield "".join(held)
                held, size = [], 0
            held.append(line)
            size += len(line)
        if held:
            yield "".join(held)
