"""From a file to documents: it is opened, whatever it is packed in, each record is extracted, and what cannot be says
why. The sandbox's process does this."""

import io
import pickle
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path, PurePosixPath
from pkgutil import resolve_name
from typing import Any, NamedTuple, get_args

from lmworks.artefact import UnreachableError
from lmworks.corpus.documents import Extracted, Extractor, Kind, document_of, document_to_json
from lmworks.corpus.read.archives import Member, open_compressed, read_tar, read_zip
from lmworks.corpus.read.byte_budget import FATAL, BudgetError, ByteBudget, head_of
from lmworks.corpus.read.config import Columns, ReadConfig
from lmworks.corpus.read.format_detection import COMPRESSIONS, MEDIA_TYPES, detect, name_behind_compression
from lmworks.corpus.read.mailboxes import read_mbox
from lmworks.corpus.read.mediawiki import read_mediawiki
from lmworks.corpus.read.record import Item, Record, Row, reason_of
from lmworks.corpus.read.table_rows import read_csv, read_jsonl, read_parquet
from lmworks.corpus.read.warc import read_warc
from lmworks.corpus.sources.docstrings import extract_docstrings, module_name
from lmworks.corpus.sources.files import FoundFile
from lmworks.corpus.sources.remote_objects import open_found, size_of
from lmworks.corpus.sources.source_code import extract_source_code
from lmworks.records import Document, RejectedRecord
from lmworks.sandbox import Mark

ROW_VERSION = "1"
Place = tuple[int, int]  # of an item: the number of its file, and its own in that
_NESTING = 2  # containers within each other, below the outermost one
_BATCH, _BATCH_CHARACTERS = 64, 1 << 20  # of what is sent together

# Functions of `corpus.extract`, by media type, which are imported when they are needed: many sources need few of them.
EXTRACTORS: Mapping[str, str] = {
    "application/epub+zip": "epub.extract_epub",
    "application/pdf": "pdf.extract_pdf",
    "application/xhtml+xml": "main_content.extract_html",
    MEDIA_TYPES[".docx"]: "docx.extract_docx",
    "message/rfc822": "mail.extract_mail",
    "text/html": "main_content.extract_html",
    "text/markdown": "markup.extract_markdown",
    "text/plain": "markup.extract_plain",
    "text/x-rst": "markup.extract_rest",
    "text/x-wiki": "wikitext.extract_wikitext",
}
_KINDS: Mapping[str, Kind] = {
    "application/epub+zip": "book",
    "application/pdf": "book",
    "application/xhtml+xml": "web",
    "message/rfc822": "mail",
    "text/html": "web",
}


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a large file: of JSON Lines the bytes `[start, end)`, of Parquet the row groups, before which so many
    lines or rows lie; or items of it, which lie pickled in a file of ours."""

    start: int
    end: int
    before: int = 0
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """Files to read, and what is known of them where a process died of one: those before `start` have come, those in
    `rejected` are not looked at, and at those in `ended` the reading of their file ends."""

    found: tuple[FoundFile, ...]
    config: ReadConfig
    piece: Piece | None = None
    start: Place = (0, 0)
    rejected: Mapping[Place, str] = field(default_factory=dict)
    ended: Mapping[Place, str] = field(default_factory=dict)


class DocumentLine(NamedTuple):
    """A document as it is written, and what the stage counts of it."""

    line: bytes
    media_type: str
    characters: int
    encoding: str
    extractor: str
    source: str


def line_of(document: Document) -> DocumentLine:
    """A document as it is written: so none is packed for its way between processes and unpacked again."""
    encoding = document.metadata.get("encoding", "utf-8")
    line = document_to_json(document).encode() + b"\n"
    return DocumentLine(line, document.media_type, len(document.text), encoding, document.extractor, document.source)


def read_files(request: Request, mark: Mark) -> Iterator[tuple[Place, list[tuple[int, DocumentLine | RejectedRecord]]]]:
    """The documents of files, and what is rejected, one for each item in them, some at a time: the place behind the
    last of them, and each with the number of its file.

    `mark(*place)` is called before an item is read. Raises only what `open_found` raises for an object at an address.
    """
    made: list[tuple[int, DocumentLine | RejectedRecord]] = []
    following, characters = request.start, 0
    for file in range(request.start[0], len(request.found)):
        found = request.found[file]
        items = _items_of(found, request)
        for record in count():
            place, following = (file, record), (file, record + 1)
            mark(*place)
            if place in request.ended:
                reason, following = request.ended[place], (file + 1, 0)
                reason = f"{reason}; what follows is not read" if record else reason
                made.append((file, RejectedRecord(found.uri, reason)))
            elif (item := next(items, None)) is None:
                break
            elif place >= request.start:
                document = _document(item, found, request.config, request.rejected.get(place))
                if isinstance(document, Document):
                    characters += len(document.text)
                    document = line_of(document)
                made.append((file, document))
            if len(made) == _BATCH or characters > _BATCH_CHARACTERS:
                yield following, made
                made, characters = [], 0
            if place in request.ended:
                break
    if made:
        yield following, made


def _items_of(found: FoundFile, request: Request) -> Iterator[Item]:
    config, piece = request.config, request.piece
    try:
        if piece is not None and piece.path is not None:
            with piece.path.open("rb") as stream:
                while stream.peek(1):
                    yield pickle.load(stream)
            return
        with open_found(found) as stream:
            if piece is None:
                yield from read_stream(found.path.name, stream, config, size_of(found) or None)
                return
            budget = ByteBudget(stream, config.max_bytes)
            if detect(found.path.name, head_of(stream)).container == "jsonl":
                stream.seek(piece.start)
                yield from read_jsonl(stream, budget, config.columns, piece.before, piece.end - piece.start)
            else:
                groups = range(piece.start, piece.end)
                yield from read_parquet(stream, budget, config.columns, groups, piece.before)
    except (MemoryError, UnreachableError, ModuleNotFoundError):  # the last: what fsspec lacks for an address
        raise
    except Exception as error:
        yield RejectedRecord("", reason_of(error))


# ---------------------------------------------------------------------------------------------------------------------
# Records of containers


def read_stream(name: str, stream: io.BufferedReader, config: ReadConfig, size: int | None = None) -> Iterator[Item]:
    """The records, rows and rejected records of a file called `name`, of `size` bytes where that is known; one record
    called "" where it is no container.

    Its format is detected by its name and first bytes. Raises nothing for what is in it.
    """
    opened = _Opened(ByteBudget(stream, config.max_bytes), config.columns)
    try:
        yield from opened.read(Member("", stream, size), name, _NESTING)
    except BudgetError as error:
        yield RejectedRecord("", str(error))


@dataclass(frozen=True, slots=True)
class _Opened:
    """One source: how much it may unpack to, and the columns of the tables in it. BudgetError ends all of it."""

    budget: ByteBudget
    columns: Columns

    def read(self, member: Member, name: str, nesting: int) -> Iterator[Item]:
        """The items of what is called `name`; damage in it is its own."""
        what = ""
        try:
            found = detect(name, head_of(member.stream))
            what = found.container or ""
            if not what:
                content = self.budget.content(member.stream, member.size)
                yield Record(member.name, content, found.media_type, metadata=member.metadata)
            elif what in COMPRESSIONS:
                yield from self._decompressed(member, name, what, nesting)
            else:
                yield from self._container(member.stream, what, nesting)
        except FATAL:
            raise
        except Exception as error:  # each library has errors of its own
            yield RejectedRecord(member.name, reason_of(error, what))

    def _decompressed(self, member: Member, name: str, packing: str, nesting: int) -> Iterator[Item]:
        """A compression belongs to what it compresses, unless that is compressed again."""
        stream = open_compressed(member.stream, packing, self.budget)
        name = name_behind_compression(name)
        kind = detect(name, head_of(stream)).container
        if kind == "warc" and packing == "gzip" and member.stream.seekable():  # of which each record is compressed
            member.stream.seek(0)
            yield from self._container(member.stream, kind, nesting)
        elif kind in COMPRESSIONS and not nesting:
            yield RejectedRecord(member.name, f"compressed again ({kind}), deeper than the limit on nesting")
        else:
            deeper = nesting - (kind in COMPRESSIONS)
            yield from self.read(replace(member, stream=stream, size=None), name, deeper)

    def _inner(self, members: Iterable[Member | RejectedRecord], nesting: int) -> Iterator[Item]:
        """The items of each member of an archive, one level deeper if it is a container."""
        for member in members:
            if isinstance(member, RejectedRecord):
                yield member
                continue
            kind = detect(member.name, head_of(member.stream)).container
            if kind is None:
                yield from self.read(member, member.name, nesting)
            elif not nesting:
                yield RejectedRecord(member.name, f"a container ({kind}) deeper than the limit on nesting")
            else:
                for item in self.read(replace(member, name=""), member.name, nesting - 1):
                    yield replace(item, uri=f"{member.name}/{item.uri}" if item.uri else member.name)

    def _container(self, stream: io.BufferedReader, kind: str, nesting: int) -> Iterator[Item]:
        if kind in ("zip", "parquet") and not stream.seekable():  # they are read from their ends
            memory: Any = io.BytesIO(self.budget.content(stream))
            stream = io.BufferedReader(memory)
        match kind:
            case "zip":
                yield from self._inner(read_zip(stream, self.budget), nesting)
            case "tar":
                yield from self._inner(read_tar(stream), nesting)
            case "csv" | "tsv":
                dialect = "excel" if kind == "csv" else "excel-tab"
                yield from read_csv(stream, self.budget, self.columns, dialect)
            case "jsonl":
                yield from read_jsonl(stream, self.budget, self.columns)
            case "parquet":
                yield from read_parquet(stream, self.budget, self.columns)
            case "mbox":
                yield from read_mbox(stream, self.budget)
            case "mediawiki":
                yield from read_mediawiki(stream, self.budget)
            case _:
                yield from read_warc(stream, self.budget)


# ---------------------------------------------------------------------------------------------------------------------
# Documents of records


def _document(item: Item, found: FoundFile, config: ReadConfig, rejected: str | None) -> Document | RejectedRecord:
    uri = f"{found.uri}/{item.uri}" if item.uri else found.uri
    if rejected is not None:
        return RejectedRecord(uri, rejected)
    match item:
        case Record():
            return _of_record(item, uri, found, config)
        case Row():
            return _of_row(item, uri, found, config)
        case _:
            return replace(item, uri=uri)


def _of_record(record: Record, uri: str, found: FoundFile, config: ReadConfig) -> Document | RejectedRecord:
    inside = PurePosixPath(record.uri or found.relative.as_posix())
    media_type = record.media_type or ""
    extractor = extractor_of(media_type, inside, config, record.metadata.get("charset"))
    if extractor is None:
        what = inside.suffix.lower() or media_type
        reason = f"no reader for {what}" if what else "binary data, and no suffix that says of what kind"
        return RejectedRecord(uri, reason)
    try:
        extracted = extractor(record.content)
    except FATAL:
        raise
    except Exception as error:
        return RejectedRecord(uri, reason_of(error))
    stated = dict(extracted.metadata)
    return document_of(
        extracted,
        record.content,
        uri=uri,
        media_type=media_type,
        title=extracted.title or record.title,
        date=record.date or stated.pop("date", None),
        language=stated.pop("language", None),
        licence=stated.pop("licence", None) or config.licence or None,
        source=found.source,
        kind=_kind_of(media_type, config, stated.pop("kind", None)),
        metadata={**record.metadata, **stated},
    )


def _of_row(row: Row, uri: str, found: FoundFile, config: ReadConfig) -> Document | RejectedRecord:
    if not row.text.strip():
        return RejectedRecord(uri, "empty")
    return document_of(
        Extracted(row.text, "row", ROW_VERSION, row.title, row.metadata),
        row.text.encode("utf-8", "surrogatepass"),
        uri=uri,
        media_type="text/plain",
        date=row.date,
        language=row.language,
        licence=row.licence or config.licence or None,
        source=found.source,
        kind=_kind_of("text/plain", config),
    )


def extractor_of(
    media_type: str, inside: PurePosixPath, config: ReadConfig, charset: str | None = None
) -> Extractor | None:
    """The extractor for bytes of this media type, at this path of a source; None where there is none. `charset` is
    what a crawl says of a page."""
    if name := EXTRACTORS.get(media_type):
        extractor = resolve_name(f"lmworks.corpus.extract.{name}")
        return partial(extractor, charset=charset, web=config.web) if name.endswith(".extract_html") else extractor
    if media_type == "text/x-python" and config.source_code == "docstrings":
        return partial(extract_docstrings, name=module_name(inside))
    if media_type.startswith("text/x-") and config.source_code == "whole":
        return partial(extract_source_code, media_type=media_type)
    return None


def _kind_of(media_type: str, config: ReadConfig, stated: str | None = None) -> Kind:
    if config.kind != "auto":
        return config.kind
    if stated and stated in get_args(Kind):
        return stated  # type: ignore[return-value]
    is_code = media_type.startswith("text/x-") and media_type not in EXTRACTORS and config.source_code == "whole"
    return _KINDS.get(media_type, "code" if is_code else "text")
