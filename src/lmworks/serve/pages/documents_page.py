"""The pages /documents (what is indexed, and one search box) and /documents/{hash} (a text, with a passage shown)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from lmworks.records import Document
from lmworks.retrieve.index import Index
from lmworks.retrieve.rendered_text import rendered_title
from lmworks.serve.events import NotReadyError
from lmworks.serve.pages import document_list, document_text, page_templates
from lmworks.serve.pages.document_list import ORDERS, Entry, FoundPassage, Opened, Reason, find_passages, in_order
from lmworks.serve.pages.document_text import Heading, Passage, Window
from lmworks.serve.pages.page_templates import file_name, whole_number
from lmworks.serve.service import Service

PAGE = 50  # documents on a page
PASSAGES_ON_A_PAGE = 10
LONGEST_QUERY = 1000
OUTLINE = 400  # headings shown next to a document


@dataclass(frozen=True, slots=True)
class Column:
    """A head of the table: the link that sorts by it, and how it is sorted now."""

    name: str
    title: str
    link: str
    state: str  # "ascending", "descending" or "none", as in aria-sort


@dataclass(frozen=True, slots=True)
class Pages:
    """The part of a list that is shown: items `first` to `last` of `total`, and the links to its neighbours."""

    first: int
    last: int
    total: int
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The documents that are shown, and in which order."""

    entries: tuple[Entry, ...]
    columns: tuple[Column, ...]
    pages: Pages


@dataclass(frozen=True, slots=True)
class OutlineLink:
    heading: Heading
    link: str
    here: bool  # its place is in the window that is shown


@dataclass(frozen=True, slots=True)
class DocumentView:
    """Everything that the page of one document shows."""

    document: Document
    title: str
    facts: tuple[tuple[str, str], ...]
    window: Window
    outline: tuple[OutlineLink, ...]
    outline_left_out: int
    cited: Passage | None
    chunk_count: int
    other_uris: tuple[str, ...]


# ---------------------------------------------------------------------------------------------------------------------
# View models


def link(**query: str | int) -> str:
    """The address of the list with these settings; what is at its default is left out."""
    changed = {name: value for name, value in query.items() if value not in ("", 0, 1)}
    return f"/documents?{urlencode(changed)}" if changed else "/documents"


def listing(entries: Sequence[Entry], q: str, sort: str, page: int) -> Listing:
    """One page of documents; `sort` is a column, with a leading "-" for descending. ValueError for an unknown one."""
    name = sort.removeprefix("-")
    if name not in ORDERS:
        raise ValueError(f"documents are sorted by {', '.join(ORDERS)}; got {name[:40]!r}")
    rows = document_list.ordered(entries, name, descending=sort.startswith("-"))
    settings = {"q": q, "by": "name" if q else "", "sort": "" if sort == "name" else sort}
    columns = tuple(_column(column, sort, settings) for column in ORDERS)
    return Listing(rows[(page - 1) * PAGE : page * PAGE], columns, pages(len(rows), page, PAGE, settings))


def _column(name: str, sort: str, settings: dict[str, str]) -> Column:
    counted = name in ("chunks", "tokens")
    next_sort = f"-{name}" if counted else name
    if sort == next_sort:
        next_sort = name if counted else f"-{name}"
    state = "none" if sort.removeprefix("-") != name else "descending" if sort.startswith("-") else "ascending"
    return Column(name, name, link(**settings | {"sort": "" if next_sort == "name" else next_sort}), state)


def pages(total: int, page: int, size: int, settings: dict[str, str]) -> Pages:
    """The place of page number `page` in a list, and its neighbours; ValueError for a page that does not exist."""
    if page < 1 or (page > 1 and (page - 1) * size >= total):
        raise ValueError(f"there is no page {page:,}: the list has {max(1, -(-total // size)):,}")
    last = min(total, page * size)
    return Pages(
        first=min(total, (page - 1) * size + 1),
        last=last,
        total=total,
        before=link(**settings, page=page - 1) if page > 1 else "",
        after=link(**settings, page=page + 1) if last < total else "",
    )


def document_view(opened: Opened, cited: Passage | None, at: int | None) -> DocumentView:
    """The part of a document around a passage, or from `at` on, with what is known about it."""
    document = opened.document
    shown = document_text.window(document.text, opened.chunks, cited, at)
    headings = [
        replace(heading, title=rendered_title(heading.title, document.extractor))
        for heading in document_text.outline(opened.chunks)
    ]
    return DocumentView(
        document=document,
        title=rendered_title(document.title, document.extractor) or file_name(document.uri),
        facts=_facts(document),
        window=shown,
        outline=tuple(_outline_link(document.hash, heading, shown) for heading in headings[:OUTLINE]),
        outline_left_out=max(0, len(headings) - OUTLINE),
        cited=cited,
        chunk_count=len(opened.chunks),
        other_uris=opened.other_uris,
    )


def _outline_link(document: str, heading: Heading, shown: Window) -> OutlineLink:
    here = shown.start <= heading.start < shown.end
    target = f"#at-{heading.start}" if here else f"/documents/{document}?at={heading.start}#at-{heading.start}"
    return OutlineLink(heading, target, here)


def _facts(document: Document) -> tuple[tuple[str, str], ...]:
    facts = [
        ("Source", document.uri),
        ("Licence", document.licence or "unknown"),
        ("Kind", document.kind),
        ("Media type", document.media_type),
        ("Extractor", f"{document.extractor} {document.extractor_version}"),
        ("Date", document.date or ""),
        ("Language", document.language or ""),
        *((f"{name}", value) for name, value in document.metadata.items() if name != "headings" and len(value) <= 200),
        ("Hash of the text", document.hash),
        ("Hash of the source", document.source_hash),
    ]
    return tuple((name, value) for name, value in facts if value)


# ---------------------------------------------------------------------------------------------------------------------
# Reading


async def _reasons(service: Service) -> tuple[Reason, ...]:
    if service.current is None:
        return ()
    uses = service.current.uses
    folders = [service.workspace / f for name, f in service.current.stages.items() if uses[name] == "corpus.read"]
    by_folder = await asyncio.gather(*(asyncio.to_thread(document_list.left_out, folder) for folder in folders))
    return tuple(reason for reasons in by_folder for reason in reasons)


def _search(service: Service, index: Index, q: str) -> tuple[FoundPassage, ...]:
    for model in service.models:
        if model.kind == "embedding" and model.fingerprint == index.encoder_fingerprint:
            return find_passages(index, q, service.models.encoder(model.name))
    raise LookupError("the encoder that made this index is not among the models that are served")


# ---------------------------------------------------------------------------------------------------------------------
# Routes


def router(service: Service) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    known: dict[Path, tuple[Entry, ...]] = {}  # an index never changes under its folder

    def listed(index: Index) -> tuple[Entry, ...]:
        if index.folder not in known:
            known.clear()
            known[index.folder] = document_list.entries(index)
        return known[index.folder]

    @routes.get("/documents")
    async def documents(q: str = "", by: str = "", sort: str = "", page: str = "") -> HTMLResponse:
        if service.state != "ready":
            return not_ready(service, "documents", "Documents")
        q = " ".join(q.split())[:LONGEST_QUERY]
        try:
            number = whole_number(page, 1, "page")
            grounded = any(model.kind == "assistant" for model in service.models)  # not language models alone
            entries = await service.read_index(listed) if grounded else ()
            context = {"active": "documents", "q": q, "totals": totals(entries), "reasons": await _reasons(service)}
            if q and by != "name" and entries:
                return await _passages_page(service, context, entries, q, sort or "relevance", number)
            shown = listing(document_list.matching(entries, q), q, sort or "name", number)
        except ValueError as error:
            return page_templates.error_page(service, 400, "That list cannot be shown", str(error))
        return page_templates.page(service, "documents.html", **context, listing=shown, passages=None)

    @routes.get("/documents/{document_hash}")
    async def document(
        document_hash: str, start: str | None = None, end: str | None = None, at: str | None = None
    ) -> HTMLResponse:
        if service.state != "ready":
            return not_ready(service, "documents", "Documents")
        try:
            opened = await service.read_index(lambda index: document_list.open_document(index, document_hash))
        except (KeyError, NotReadyError):
            text = (
                f"No document with the hash {document_hash[:12]}… is in the index now. It may have changed, or been "
                "removed, since the answer that cites it."
            )
            return page_templates.error_page(service, 404, "No such document", text)
        try:
            length = len(opened.document.text)
            cited = document_text.passage(length, start, end)
            begin = whole_number(at, 0, "at", most=length) if at else None
        except ValueError as error:
            return page_templates.error_page(
                service, 400, "No such passage", f"{str(error)[:1].upper()}{str(error)[1:]}."
            )
        view = await asyncio.to_thread(document_view, opened, cited, begin)
        return page_templates.page(service, "document.html", active="documents", view=view)

    return routes


async def _passages_page(
    service: Service, context: dict[str, Any], entries: Sequence[Entry], q: str, sort: str, page: int
) -> HTMLResponse:
    if sort not in ("relevance", "document"):
        raise ValueError(f"passages are sorted by relevance or document; got {sort[:40]!r}")
    passages = in_order(await service.read_index(lambda index: _search(service, index, q)), sort)
    settings = {"q": q, "sort": "" if sort == "relevance" else sort}
    shown = passages[(page - 1) * PASSAGES_ON_A_PAGE : page * PASSAGES_ON_A_PAGE]
    return page_templates.page(
        service,
        "documents.html",
        **context,
        listing=None,
        passages=shown,
        named=document_list.alike(entries, q),
        sort=sort,
        pages=pages(len(passages), page, PASSAGES_ON_A_PAGE, settings),
        other_order=link(q=q, sort="document" if sort == "relevance" else ""),
        by_name=link(q=q, by="name"),
    )


def totals(entries: Sequence[Entry]) -> tuple[int, int, int]:
    """Documents, chunks, tokens."""
    return len(entries), sum(entry.chunks for entry in entries), sum(entry.tokens for entry in entries)


def not_ready(service: Service, active: str, title: str) -> HTMLResponse:
    """Nothing can be shown yet, or ever: what is happening, and when to look again."""
    headers = {"Retry-After": "3"} if service.state == "starting" else {}
    return page_templates.page(
        service, "not_ready.html", 503, headers, active=active, title=title, failure=service.failure
    )
