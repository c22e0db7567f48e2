"""Documents into chunks, chunks into an index, questions into ranked chunks.

The functions `chunk` and `search` have the names of their modules, so they are imported from there:
`from lmworks.retrieve.search import search`.
"""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.retrieve.chunk import Chunk
    from lmworks.retrieve.config import ChunkConfig, IndexConfig, SearchConfig
    from lmworks.retrieve.evidence_unit import evidence_units
    from lmworks.retrieve.index import Filters, Index

__getattr__, __all__ = lazy_exports(__name__, __file__)
