"""Sources to documents: what each source stands for, in a fixed order, and how its files are read."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from lmworks.corpus.read.config import LMWORKS_DOCS, NAMED_SOURCES, PYTHON_DOCS, ReadConfig
from lmworks.corpus.read.record_documents import Extract, documents_of, extract_here
from lmworks.corpus.sources.files import FoundFile, NoSourceError, check_sources, find_files, is_url
from lmworks.corpus.sources.lmworks_docs import lmworks_docs, lmworks_docs_digest, read_lmworks_docs
from lmworks.corpus.sources.python_docs import python_docs_digest, read_python_docs
from lmworks.corpus.sources.remote_objects import find_objects
from lmworks.records import Document, RejectedRecord

_READERS = {PYTHON_DOCS: read_python_docs, LMWORKS_DOCS: read_lmworks_docs}
_DIGESTS = {PYTHON_DOCS: python_docs_digest, LMWORKS_DOCS: lmworks_docs_digest}

Progress = Callable[[int, int | None, str], None]  # (done, total or None, unit)


def read_documents(
    config: ReadConfig, progress: Progress | None = None, base: Path | None = None
) -> Iterator[Document | RejectedRecord]:
    """Files first, source by source and sorted in each, then objects at addresses, then `python-docs`, `lmworks-docs`.

    Relative sources start at `base`, by default the current folder. Raises NoSourceError when there is no source or one
    that does not exist; a bad file raises nothing.
    """
    for done, found in enumerate(found_sources(config, base or Path.cwd()), start=1):
        yield from read_found(found, config)
        if progress is not None:
            progress(done, None, "files")


Found = (
    FoundFile | RejectedRecord | str
)  # a file, what was left out by rule, or the name of a source that is none of files


def found_sources(config: ReadConfig, base: Path) -> Iterator[Found]:
    """What there is to read, in its order: files in one pass, so that one that two sources share is read once."""
    _check_some(config)
    yield from _files(config, base)
    yield from (name for name in NAMED_SOURCES if name in config.sources)


def check_there(config: ReadConfig, base: Path) -> None:
    """NoSourceError where there is no source, or one on this machine does not exist; no address is reached for it."""
    _check_some(config)
    check_sources([name for name in config.sources if name not in NAMED_SOURCES and not is_url(name)], base)
    if LMWORKS_DOCS in config.sources:
        lmworks_docs()


def _check_some(config: ReadConfig) -> None:
    if not config.sources:
        raise NoSourceError(
            f'no sources: set "sources" to folders, files, globs, "{PYTHON_DOCS}" or "{LMWORKS_DOCS}", such as '
            'sources=["docs"]'
        )


def read_found(
    found: Found, config: ReadConfig, extract: Extract = extract_here
) -> Iterator[Document | RejectedRecord]:
    """The documents of one of them."""
    match found:
        case FoundFile():
            yield from documents_of(found, config, extract)
        case RejectedRecord():
            yield found
        case source:
            for item in _READERS[source](config.max_bytes):
                yield replace(item, source=source, kind="text") if isinstance(item, Document) else item


def source_digest(config: ReadConfig, base: Path) -> str:
    """SHA-256 of what `read_documents` would read: the names and bytes of the files, and what is left out by rule.

    A source that does not exist digests as such; reading it is what raises.
    """
    digest = hashlib.sha256()
    try:
        for name in NAMED_SOURCES:
            if name in config.sources:
                digest.update(_DIGESTS[name]().encode())
        for found in _files(config, base):
            content = _content_of(found) if isinstance(found, FoundFile) else f"{found.reason}\0{found.count}"
            digest.update(f"{found.uri}\0{content}\n".encode())
    except NoSourceError as error:
        digest.update(str(error).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _files(config: ReadConfig, base: Path) -> Iterator[FoundFile | RejectedRecord]:
    """Those of paths, then those of addresses."""
    names = [source for source in config.sources if source not in NAMED_SOURCES]
    addresses = [name for name in names if is_url(name)]
    labels = set[str]() if len(names) < len(config.sources) or addresses else None
    yield from find_files([name for name in names if not is_url(name)], config.exclude, base, labels)
    if labels is not None:
        yield from find_objects(addresses, config.exclude, labels)


def _content_of(found: FoundFile) -> str:
    """A hash; of an object what its store says of its version, so that not all is fetched to see that nothing
    changed."""
    if found.remote is not None:
        return f"{found.remote.address}\0{found.remote.version}"
    try:
        with found.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror or error}"
