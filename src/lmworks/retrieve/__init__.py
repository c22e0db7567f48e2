"""Documents into chunks, chunks into an index, questions into ranked chunks.

The functions `chunk` and `search` have the names of their modules, so they are imported from there:
`from lmworks.retrieve.search import search`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmworks.retrieve.chunk import Chunk as Chunk
    from lmworks.retrieve.config import ChunkConfig as ChunkConfig
    from lmworks.retrieve.config import IndexConfig as IndexConfig
    from lmworks.retrieve.config import SearchConfig as SearchConfig
    from lmworks.retrieve.index import Filters as Filters
    from lmworks.retrieve.index import Index as Index
    from lmworks.retrieve.sentences import evidence_units as evidence_units

_PUBLIC = {
    "Chunk": "lmworks.retrieve.chunk",
    "ChunkConfig": "lmworks.retrieve.config",
    "Filters": "lmworks.retrieve.index",
    "Index": "lmworks.retrieve.index",
    "IndexConfig": "lmworks.retrieve.config",
    "SearchConfig": "lmworks.retrieve.config",
    "evidence_units": "lmworks.retrieve.sentences",
}

__all__ = ["Chunk", "ChunkConfig", "Filters", "Index", "IndexConfig", "SearchConfig", "evidence_units"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'lmworks.retrieve' has no attribute {name!r}")
