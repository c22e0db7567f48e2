"""Sources to documents: what each source stands for, in a fixed order, and how its files are read."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path

from lmworks.artefact import FileHashes, hash_file
from lmworks.corpus.documents import Shard, document_from_json
from lmworks.corpus.read.config import LMWORKS_DOCS, NAMED_SOURCES, PYTHON_DOCS, ReadConfig
from lmworks.corpus.read.reader import DocumentLine, Piece, Request, line_of, read_files
from lmworks.corpus.sources.files import FoundFile, NoSourceError, check_sources, find_files, is_url
from lmworks.corpus.sources.packaged_docs import (
    lmworks_docs,
    lmworks_docs_digest,
    python_docs_digest,
    read_lmworks_docs,
    read_python_docs,
)
from lmworks.corpus.sources.remote_objects import find_objects
from lmworks.records import Document, RejectedRecord
from lmworks.sandbox import Sandbox, SandboxError

LISTED = 10_000  # rejected records of a file that are listed one by one
_REASONS, _OTHER = 100, "other reasons"  # that the others are counted by, and what stands for all further ones
_DEATHS = 16  # of the process over records of one file
_TOGETHER = 64  # files that are asked for at once
# What reads a named source, and what digests it.
_NAMED = {PYTHON_DOCS: (read_python_docs, python_docs_digest), LMWORKS_DOCS: (read_lmworks_docs, lmworks_docs_digest)}

Found = FoundFile | RejectedRecord | str  # a file, what was left out by rule, or a named source


def read_documents(
    config: ReadConfig, base: Path | None = None, sandbox: Sandbox | None = None
) -> Iterator[Document | RejectedRecord]:
    """Files first, source by source and sorted in each, then objects at addresses, then `python-docs`, `lmworks-docs`.

    Relative sources start at `base`, by default the current folder. Files are read in a process of their own, that of
    `sandbox` where one is given. Raises NoSourceError when there is no source or one that does not exist; a bad file
    raises nothing.
    """
    with Sandbox(config.guard) as new:
        sources = found_sources(config, base or Path.cwd())
        while files := tuple(islice(sources, _TOGETHER)):
            for item in lines_of(files, config, sandbox or new):
                yield document_from_json(item.line, "what was read") if isinstance(item, DocumentLine) else item


def found_sources(config: ReadConfig, base: Path) -> Iterator[Found]:
    """All there is to read, in order: files in one pass, so that one that two sources share is read once."""
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


def outside_digest(config: ReadConfig, base: Path, kept: Path | None = None) -> str:
    """SHA-256 of what `read_documents` would read: the names and bytes of the files, and what is left out by rule.

    Files whose hashes are in the file `kept` (see `FileHashes`) are not read. A source that does not exist digests as
    such; reading it is what raises.
    """
    digest, hashes = hashlib.sha256(), FileHashes(kept) if kept else None
    hash_of = hashes.of if hashes else hash_file
    try:
        for name in NAMED_SOURCES:
            if name in config.sources:
                digest.update(_NAMED[name][1]().encode())
        for found in _files(config, base):
            content = _content_of(found, hash_of) if isinstance(found, FoundFile) else f"{found.reason}\0{found.count}"
            digest.update(f"{found.uri}\0{content}\n".encode())
    except NoSourceError as error:
        digest.update(str(error).encode("utf-8", "surrogateescape"))
    if hashes:
        hashes.save()
    return digest.hexdigest()


def _files(config: ReadConfig, base: Path) -> Iterator[FoundFile | RejectedRecord]:
    """Those of paths, then those of addresses."""
    names = [source for source in config.sources if source not in NAMED_SOURCES]
    addresses = [name for name in names if is_url(name)]
    labels = set[str]() if len(names) < len(config.sources) or addresses else None
    yield from find_files([name for name in names if not is_url(name)], config.exclude, base, labels)
    if labels is not None:
        yield from find_objects(addresses, config.exclude, labels)


def _content_of(found: FoundFile, hash_of: Callable[[Path], str]) -> str:
    """A hash; of an object what its store says of its version, so that not all is fetched to see that nothing
    changed."""
    if found.remote is not None:
        return f"{found.remote.address}\0{found.remote.version}"
    try:
        return hash_of(found.path)
    except OSError as error:
        return f"unreadable: {error.strerror or error}"


# ---------------------------------------------------------------------------------------------------------------------
# Documents of one of them


def lines_of(
    found: Iterable[Found], config: ReadConfig, sandbox: Sandbox, piece: Piece | None = None, start: int = 0
) -> Iterator[DocumentLine | RejectedRecord]:
    """The documents of files, of a piece of one or of its items from `start` on, of the archives, tables and crawls
    that they are, or of named sources; raises nothing for what files hold.

    Of a shard that a stage wrote they are as they are there; a line that is none raises ValueError.
    """
    for is_file, some in groupby(found, lambda each: isinstance(each, FoundFile) and not each.made):
        if is_file:
            request = Request(tuple(some), config, piece, (0, start))  # type: ignore[arg-type]
            yield from _without_repetition(_of_files(request, sandbox), request.found)
        else:
            for item in (item for each in some for item in _of_other(each, config)):
                yield line_of(item) if isinstance(item, Document) else item


def _of_other(found: Found, config: ReadConfig) -> Iterator[Document | RejectedRecord]:
    match found:
        case RejectedRecord():
            yield found
        case FoundFile():
            # What the config says of kind and licence, where it says something, stays behind what the documents state.
            for document in Shard(found.path):
                yield replace(
                    document,
                    uri=f"{found.source}/{document.uri}" if found.source else document.uri,
                    source=found.source or document.source,
                    licence=document.licence or config.licence or None,
                    kind=document.kind if config.kind == "auto" else config.kind,
                )
        case source:
            for item in _NAMED[source][0](config.max_bytes):
                yield replace(item, source=source, kind="text") if isinstance(item, Document) else item


def _of_files(request: Request, sandbox: Sandbox) -> Iterator[tuple[int, DocumentLine | RejectedRecord]]:
    """Each with the number of its file. Of a record at which the process died the reason, and then the others; where it
    died there again, since it cannot even be read, the reading of this file ends."""
    while True:
        try:
            for start, batch in sandbox.stream(read_files, request):
                request = replace(request, start=start)
                yield from batch
            return
        except SandboxError as death:
            place, reason = sandbox.place, str(death)
        deaths = sum(file == place[0] for file, _ in request.rejected)
        if place not in request.rejected and deaths < _DEATHS:
            request = replace(request, rejected={**request.rejected, place: reason})
        elif place not in request.ended:
            request = replace(request, ended={**request.ended, place: reason})
        else:  # it died where nothing is read
            raise RuntimeError(f"{request.found[place[0]].uri}: {reason}")


def _without_repetition(
    items: Iterable[tuple[int, DocumentLine | RejectedRecord]], found: Sequence[FoundFile]
) -> Iterator[DocumentLine | RejectedRecord]:
    """The items, of the rejected ones of a file no more than `LISTED` one by one and the others counted by reason: a
    file of some kB may unpack to a million empty rows."""
    for file, some in groupby(items, lambda item: item[0]):
        listed, others = 0, Counter[str]()
        for _, item in some:
            listed += isinstance(item, RejectedRecord)
            if isinstance(item, RejectedRecord) and listed > LISTED:
                others[item.reason if item.reason in others or len(others) < _REASONS else _OTHER] += item.count
            else:
                yield item
        for reason, count in others.items():
            yield RejectedRecord(found[file].uri, f"{reason} (after {LISTED:,} that are listed one by one)", count)
