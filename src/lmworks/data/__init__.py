"""Raw sources into documents, documents into token shards, shards into batches."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmworks.data.batching import Batch as Batch
    from lmworks.data.config import LoaderConfig as LoaderConfig
    from lmworks.data.config import PairLoaderConfig as PairLoaderConfig
    from lmworks.data.config import ReadConfig as ReadConfig
    from lmworks.data.config import SourceConfig as SourceConfig
    from lmworks.data.config import TokenizeConfig as TokenizeConfig
    from lmworks.data.edits import CleanText as CleanText
    from lmworks.data.edits import apply_edits as apply_edits
    from lmworks.data.loader import Loader as Loader
    from lmworks.data.loader_report import describe_loader as describe_loader
    from lmworks.data.pair_batching import PairBatch as PairBatch
    from lmworks.data.pair_loader import PairLoader as PairLoader
    from lmworks.data.pairs import read_pairs as read_pairs
    from lmworks.data.reading import read_documents as read_documents
    from lmworks.data.store import DocumentStore as DocumentStore
    from lmworks.data.store import write_documents as write_documents
    from lmworks.data.token_dataset import TokenDataset as TokenDataset
    from lmworks.data.token_dataset import TokenWriter as TokenWriter

_PUBLIC = {
    "Batch": "lmworks.data.batching",
    "CleanText": "lmworks.data.edits",
    "DocumentStore": "lmworks.data.store",
    "Loader": "lmworks.data.loader",
    "LoaderConfig": "lmworks.data.config",
    "PairBatch": "lmworks.data.pair_batching",
    "PairLoader": "lmworks.data.pair_loader",
    "PairLoaderConfig": "lmworks.data.config",
    "ReadConfig": "lmworks.data.config",
    "SourceConfig": "lmworks.data.config",
    "TokenDataset": "lmworks.data.token_dataset",
    "TokenWriter": "lmworks.data.token_dataset",
    "TokenizeConfig": "lmworks.data.config",
    "apply_edits": "lmworks.data.edits",
    "describe_loader": "lmworks.data.loader_report",
    "read_documents": "lmworks.data.reading",
    "read_pairs": "lmworks.data.pairs",
    "write_documents": "lmworks.data.store",
}

__all__ = [
    "Batch",
    "CleanText",
    "DocumentStore",
    "Loader",
    "LoaderConfig",
    "PairBatch",
    "PairLoader",
    "PairLoaderConfig",
    "ReadConfig",
    "SourceConfig",
    "TokenDataset",
    "TokenWriter",
    "TokenizeConfig",
    "apply_edits",
    "describe_loader",
    "read_documents",
    "read_pairs",
    "write_documents",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'lmworks.data' has no attribute {name!r}")
