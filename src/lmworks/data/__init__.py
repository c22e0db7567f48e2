"""Raw sources into documents: reading, extraction, cleaning as edits, and documents on disk."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmworks.data.config import ReadConfig as ReadConfig
    from lmworks.data.edits import CleanText as CleanText
    from lmworks.data.edits import apply_edits as apply_edits
    from lmworks.data.reading import read_documents as read_documents
    from lmworks.data.store import DocumentStore as DocumentStore
    from lmworks.data.store import write_documents as write_documents

_PUBLIC = {
    "CleanText": "lmworks.data.edits",
    "DocumentStore": "lmworks.data.store",
    "ReadConfig": "lmworks.data.config",
    "apply_edits": "lmworks.data.edits",
    "read_documents": "lmworks.data.reading",
    "write_documents": "lmworks.data.store",
}

__all__ = ["CleanText", "DocumentStore", "ReadConfig", "apply_edits", "read_documents", "write_documents"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'lmworks.data' has no attribute {name!r}")
