"""The documentation of lmworks itself, which its wheel carries."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from lmworks.corpus.documents import Extracted
from lmworks.corpus.extract.markup import extract_markdown
from lmworks.corpus.sources.files import NoSourceError, read_file
from lmworks.records import Document, RejectedRecord

LICENCE = "Apache-2.0"
_PICTURE = re.compile(rb"^!\[[^\]]*\]\([^)]*\)[ \t]*\n+", re.M)  # a paragraph of its own; the wheel has none of them


def lmworks_docs(package: Path = Path(__file__).parents[2]) -> list[Path]:
    """The pages: in the package as it is installed, or in the repository that an editable installation runs from.

    NoSourceError where neither has them."""
    for folder in (package / "docs", package.parents[1] / "docs"):
        if (folder / "grounding.md").is_file():
            return sorted(folder.glob("*.md"))
    raise NoSourceError(f"there are no docs in {package}: install lmworks from its wheel or its repository")


def read_lmworks_docs(max_bytes: int) -> Iterator[Document | RejectedRecord]:
    """One document a page, `lmworks:NAME.md`, without its pictures."""
    for page in lmworks_docs():
        yield read_file(page, f"lmworks:{page.name}", "text/markdown", _extract, max_bytes, LICENCE)


def lmworks_docs_digest() -> str:
    """SHA-256 of the pages, their names and bytes."""
    digest = hashlib.sha256()
    for page in lmworks_docs():
        digest.update(page.name.encode() + b"\0" + hashlib.sha256(page.read_bytes()).digest())
    return digest.hexdigest()


def _extract(raw: bytes) -> Extracted:
    return extract_markdown(_PICTURE.sub(b"", raw))
