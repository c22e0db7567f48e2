"""Sources to documents: each file becomes a `Document`, or a `LeftOut` that says why it did not."""

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from lmworks.data.config import PYTHON_DOCS, ReadConfig, SourceCode
from lmworks.data.docstrings import extract_docstrings
from lmworks.data.extract import Extractor, read_file
from lmworks.data.files import FoundFile, NoSourceError, find_files
from lmworks.data.markup import extract_markdown, extract_plain, extract_rest
from lmworks.data.python_docs import module_name, python_docs_digest, read_python_docs
from lmworks.data.source_code import extract_source_code, source_code_type
from lmworks.data.web_page import extract_html
from lmworks.records import Document, LeftOut

Progress = Callable[[int, int | None, str], None]  # (done, total or None, unit)

MEDIA_TYPES = {
    ".htm": "text/html",
    ".html": "text/html",
    ".md": "text/markdown",
    ".py": "text/x-python",
    ".rst": "text/x-rst",
    ".txt": "text/plain",
}


def read_documents(
    config: ReadConfig, progress: Progress | None = None, base: Path | None = None
) -> Iterator[Document | LeftOut]:
    """Files first, source by source and sorted in each, then `python-docs`; relative sources start at `base`.

    `base` defaults to the current folder. Raises NoSourceError when there is no source
    or one that does not exist; a bad file raises nothing.
    """
    if not config.sources:
        raise NoSourceError(
            f'no sources: set "sources" to folders, files, globs or "{PYTHON_DOCS}", such as sources=["docs"]'
        )
    done = 0
    for source in _sources(config, base or Path.cwd()):
        for item in source:
            yield item
            done += 1
            if progress is not None:
                progress(done, None, "files")


def source_digest(config: ReadConfig, base: Path) -> str:
    """SHA-256 of what `read_documents` would read: the names and bytes of the files, and what is left out by rule.

    A source that does not exist digests as such; reading it is what raises.
    """
    digest = hashlib.sha256()
    if PYTHON_DOCS in config.sources:
        digest.update(python_docs_digest().encode())
    try:
        for found in find_files(_paths(config), config.exclude, base):
            content = _hash_of(found.path) if isinstance(found, FoundFile) else f"{found.reason}\0{found.count}"
            digest.update(f"{found.uri}\0{content}\n".encode())
    except NoSourceError as error:
        digest.update(str(error).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _sources(config: ReadConfig, base: Path) -> Iterator[Iterator[Document | LeftOut]]:
    """Files first, in one pass, so that a file shared by two sources is read once."""
    if paths := _paths(config):
        yield (
            _read(found, config.max_bytes, config.source_code) if isinstance(found, FoundFile) else found
            for found in find_files(paths, config.exclude, base)
        )
    if PYTHON_DOCS in config.sources:
        yield read_python_docs(config.max_bytes)


def _paths(config: ReadConfig) -> list[str]:
    return [source for source in config.sources if source != PYTHON_DOCS]


def _read(found: FoundFile, max_bytes: int, source_code: SourceCode) -> Document | LeftOut:
    suffix = found.path.suffix.lower()
    if source_code == "whole" and (kind := source_code_type(found.path)):
        return read_file(found.path, found.uri, kind, partial(extract_source_code, media_type=kind), max_bytes)
    if suffix not in MEDIA_TYPES:
        return LeftOut(found.uri, f"no reader for {suffix or 'files without a suffix'}")
    return read_file(found.path, found.uri, MEDIA_TYPES[suffix], _extractor(suffix, found), max_bytes)


def _extractor(suffix: str, found: FoundFile) -> Extractor:
    if suffix == ".py":
        return partial(extract_docstrings, name=module_name(found.relative))
    return {
        ".htm": extract_html,
        ".html": extract_html,
        ".md": extract_markdown,
        ".rst": extract_rest,
        ".txt": extract_plain,
    }[suffix]


def _hash_of(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror or error}"
