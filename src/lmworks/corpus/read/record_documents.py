"""From a file to documents: what it holds is opened, each record is extracted, and what cannot be says why."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from typing import get_args

from lmworks.corpus.attributes import Kind
from lmworks.corpus.documents import Extracted, Extractor, Shard, UnusableError
from lmworks.corpus.extract.docx import extract_docx
from lmworks.corpus.extract.epub import extract_epub
from lmworks.corpus.extract.mail import extract_mail
from lmworks.corpus.extract.main_content import extract_html, extract_html_fast, extract_html_whole
from lmworks.corpus.extract.markup import extract_markdown, extract_plain, extract_rest
from lmworks.corpus.extract.pdf import extract_pdf
from lmworks.corpus.extract.wikitext import extract_wikitext
from lmworks.corpus.read.config import ReadConfig, Web
from lmworks.corpus.read.container import too_large
from lmworks.corpus.read.format_detection import MEDIA_TYPES
from lmworks.corpus.read.opened_file import read_stream
from lmworks.corpus.read.record import Item, Limits, Record, Row
from lmworks.corpus.sources.docstrings import extract_docstrings
from lmworks.corpus.sources.files import FoundFile
from lmworks.corpus.sources.python_docs import module_name
from lmworks.corpus.sources.remote_objects import open_found, size_of
from lmworks.corpus.sources.source_code import extract_source_code
from lmworks.records import Document, RejectedRecord

ROW_VERSION = "1"
TOLD = 10_000  # refusals of a file that are told one by one
_REASONS, _OTHER = 100, "other reasons"  # that the others are counted by, and what stands for all further ones
_DOCX = MEDIA_TYPES[".docx"]

EXTRACTORS: Mapping[str, Extractor] = {
    "application/epub+zip": extract_epub,
    "application/pdf": extract_pdf,
    "application/xhtml+xml": extract_html,
    _DOCX: extract_docx,
    "message/rfc822": extract_mail,
    "text/html": extract_html,
    "text/markdown": extract_markdown,
    "text/plain": extract_plain,
    "text/x-rst": extract_rest,
    "text/x-wiki": extract_wikitext,
}
_WEB: Mapping[Web, Callable[..., Extracted]] = {
    "main": extract_html,
    "fast": extract_html_fast,
    "whole": extract_html_whole,
}
# Those whose parsers are C code, or work that grows with what a file claims: worth a process of their own.
_FRAGILE = frozenset(
    (extract_docstrings, extract_docx, extract_epub, *_WEB.values(), extract_mail, extract_pdf, extract_wikitext)
)

_KINDS: Mapping[str, Kind] = {
    "application/epub+zip": "book",
    "application/pdf": "book",
    "application/xhtml+xml": "web",
    "message/rfc822": "mail",
    "text/html": "web",
}
_TEXTS = frozenset(("text/markdown", "text/plain", "text/x-rst", "text/x-wiki"))

Extract = Callable[[Extractor, bytes], Extracted]  # raises UnusableError


def extract_here(extractor: Extractor, raw: bytes) -> Extracted:
    """In this process."""
    return extractor(raw)


def is_fragile(extractor: Extractor) -> bool:
    """Whether it is better run in a process of its own."""
    return (extractor.func if isinstance(extractor, partial) else extractor) in _FRAGILE


def documents_of(
    found: FoundFile, config: ReadConfig, extract: Extract = extract_here
) -> Iterator[Document | RejectedRecord]:
    """The documents of a file, or of an archive, a table or a crawl that it is; raises nothing for what it holds.

    Of a shard that a stage wrote they are as they are there; a line that is none raises StoreError.
    """
    if found.made:
        return (_as_made(document, found, config) for document in Shard(found.path))
    return documents_from(items_of(found, config), found, config, extract)


def _as_made(document: Document, found: FoundFile, config: ReadConfig) -> Document:
    """With what the config says of kind and licence where it says something, which stays behind what they state."""
    return replace(
        document,
        uri=f"{found.source}/{document.uri}" if found.source else document.uri,
        source=found.source or document.source,
        licence=document.licence or config.licence or None,
        kind=document.kind if config.kind == "auto" else config.kind,
    )


def items_of(found: FoundFile, config: ReadConfig) -> Iterator[Item]:
    """The records and rows of a file, and what is refused of it. Raises what `open_found` raises."""
    with open_found(found) as stream:
        yield from read_stream(found.path.name, stream, limits_of(config), config.columns)


def limits_of(config: ReadConfig) -> Limits:
    return Limits(record_bytes=config.max_bytes)


def documents_from(
    items: Iterable[Item], found: FoundFile, config: ReadConfig, extract: Extract = extract_here
) -> Iterator[Document | RejectedRecord]:
    """The documents that items of a file come to; an OSError of theirs is what is left out of it.

    Of what is refused, the first `TOLD` are told one by one and the others counted by their reasons: a file of some kB
    may unpack to a million empty rows.
    """
    told, others = 0, Counter[str]()
    try:
        for item in items:
            made = _document(item, found, config, extract)
            told += isinstance(made, RejectedRecord)
            if isinstance(made, RejectedRecord) and told > TOLD:
                others[made.reason if made.reason in others or len(others) < _REASONS else _OTHER] += made.count
            else:
                yield made
    except OSError as error:
        yield RejectedRecord(found.uri, f"unreadable: {error.strerror or error}")
    for reason, count in others.items():
        yield RejectedRecord(found.uri, f"{reason} (after {TOLD:,} that are told one by one)", count)


def _document(item: Item, found: FoundFile, config: ReadConfig, extract: Extract) -> Document | RejectedRecord:
    uri = f"{found.uri}/{item.name}" if item.name else found.uri
    match item:
        case Record():
            return _of_record(item, uri, found, config, extract)
        case Row():
            return _of_row(item, uri, found, config)
        case refused:
            is_file = not refused.name and refused.reason == too_large(limits_of(config))
            size = f" ({size_of(found):,})" if is_file else ""
            return RejectedRecord(uri, refused.reason + size, refused.count)


def _of_record(
    record: Record, uri: str, found: FoundFile, config: ReadConfig, extract: Extract
) -> Document | RejectedRecord:
    inside = PurePosixPath(record.name or found.relative.as_posix())
    media_type = record.media_type or ""
    extractor = extractor_of(media_type, inside, config)
    if extractor is None:
        what = inside.suffix.lower() or media_type
        return RejectedRecord(
            uri, f"no reader for {what}" if what else "binary data, and no suffix that says of what kind"
        )
    if extractor in _WEB.values() and (charset := record.metadata.get("charset")):  # of a crawl
        extractor = partial(_WEB[config.web], charset=charset)
    try:
        extracted = extract(extractor, record.content)
    except UnusableError as error:
        return RejectedRecord(uri, str(error))
    told = dict(extracted.metadata)
    return Document(
        text=extracted.text,
        uri=uri,
        media_type=media_type,
        extractor=extracted.extractor,
        extractor_version=extracted.extractor_version,
        source_hash=hashlib.sha256(record.content).hexdigest(),
        title=extracted.title or record.title,
        date=record.date or told.pop("date", None),
        language=told.pop("language", None),
        licence=told.pop("licence", None) or config.licence or None,
        source=found.source,
        kind=_kind_of(media_type, config, told.pop("kind", None)),
        metadata={**record.metadata, **told},
    )


def _of_row(row: Row, uri: str, found: FoundFile, config: ReadConfig) -> Document | RejectedRecord:
    if not row.text.strip():
        return RejectedRecord(uri, "empty")
    return Document(
        text=row.text,
        uri=uri,
        media_type="text/plain",
        extractor="row",
        extractor_version=ROW_VERSION,
        source_hash=hashlib.sha256(row.text.encode("utf-8", "surrogatepass")).hexdigest(),
        title=row.title,
        date=row.date,
        language=row.language,
        licence=row.licence or config.licence or None,
        source=found.source,
        kind=_kind_of("text/plain", config),
        metadata=row.metadata,
    )


def extractor_of(media_type: str, inside: PurePosixPath, config: ReadConfig) -> Extractor | None:
    """What reads bytes of this media type, at this path of a source; None where nothing does."""
    if EXTRACTORS.get(media_type) is extract_html:
        return _WEB[config.web]
    if media_type in EXTRACTORS:
        return EXTRACTORS[media_type]
    if media_type == "text/x-python" and config.source_code == "docstrings":
        return partial(extract_docstrings, name=module_name(inside))
    if media_type.startswith("text/x-") and config.source_code == "whole":
        return partial(extract_source_code, media_type=media_type)
    return None


def _kind_of(media_type: str, config: ReadConfig, told: str | None = None) -> Kind:
    if config.kind != "auto":
        return config.kind
    if told in get_args(Kind):
        return told  # type: ignore[return-value]
    is_code = media_type.startswith("text/x-") and media_type not in _TEXTS and config.source_code == "whole"
    return _KINDS.get(media_type, "code" if is_code else "text")
