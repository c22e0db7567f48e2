"""The documents that an answer cites, and where their pages show what is cited."""

from collections.abc import Collection
from urllib.parse import urlencode

from lmworks.records import Document, Span
from lmworks.retrieve.index import Index
from lmworks.serve.service import Service


async def cited_documents(service: Service, hashes: Collection[str]) -> dict[str, Document]:
    """The documents of these hashes that the index still holds."""

    def read(index: Index) -> dict[str, Document]:
        documents: dict[str, Document] = {}
        for document in hashes:
            try:
                documents[document] = index.document(document)
            except KeyError:  # built again without it since
                continue
        return documents

    return await service.read_index(read) if hashes and service.state == "ready" else {}


def document_link(span: Span) -> str:
    """The address at which the page of a document shows a span."""
    return f"/documents/{span.document}?{urlencode({'start': span.start, 'end': span.end})}#cite"
