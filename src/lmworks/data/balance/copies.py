"""Copies of documents: what they say of the text that they were made from, and on which side of a split that puts them.

Metadata of a copy: `origin`, the hash of the text that it was made from; `copy`, its number from 2 on (1 is the
document itself, which is left as it came); `augmented`, the rule that wrote it otherwise, where one did.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from lmworks.data.store import Shard
from lmworks.records import Document

ORIGIN, COPY, AUGMENTED = "origin", "copy", "augmented"
_HASH = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"[1-9][0-9]*")
_MARKS = (f'"{ORIGIN}": "'.encode(), f'"{COPY}": "'.encode())  # quotes of a text are escaped, so none of it looks so


def make_copy(document: Document, number: int, text: str, rule: str = "") -> Document:
    """The copy of this number, from 2 on, with a text that `rule` made of the document's, or the same."""
    told = {ORIGIN: document.hash, COPY: str(number)} | ({AUGMENTED: rule} if rule else {})
    return replace(
        document, text=text, hash="", uri=f"{document.uri}#copy-{number}", metadata={**document.metadata, **told}
    )


def origin_of(metadata: Mapping[str, str]) -> str | None:
    """The hash of the text that a document is a copy of; None for one that is no copy."""
    origin, number = metadata.get(ORIGIN, ""), metadata.get(COPY, "")
    return origin if _HASH.fullmatch(origin) and _NUMBER.fullmatch(number) and number != "1" else None


def origins(shards: Sequence[Shard]) -> Iterator[str | None]:
    """`origin_of` each document, in order; only lines that may be copies are parsed."""
    for shard in shards:
        with shard.path.open("rb") as stream:
            for line in stream:
                yield origin_of(json.loads(line)["metadata"]) if all(mark in line for mark in _MARKS) else None
