"""Raw sources into documents, documents into token shards, shards into batches."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmworks.data.annotate.annotating import annotate_document as annotate_document
    from lmworks.data.annotate.config import AnnotateConfig as AnnotateConfig
    from lmworks.data.balance.config import BalanceConfig as BalanceConfig
    from lmworks.data.batching import Batch as Batch
    from lmworks.data.cleaning.ledger import read_ledger as read_ledger
    from lmworks.data.cleaning.policy import Policy as Policy
    from lmworks.data.cleaning.policy import default_policy as default_policy
    from lmworks.data.cleaning.policy import read_policy as read_policy
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
    "AnnotateConfig": "lmworks.data.annotate.config",
    "BalanceConfig": "lmworks.data.balance.config",
    "Batch": "lmworks.data.batching",
    "CleanText": "lmworks.data.edits",
    "DocumentStore": "lmworks.data.store",
    "Loader": "lmworks.data.loader",
    "LoaderConfig": "lmworks.data.config",
    "PairBatch": "lmworks.data.pair_batching",
    "PairLoader": "lmworks.data.pair_loader",
    "PairLoaderConfig": "lmworks.data.config",
    "Policy": "lmworks.data.cleaning.policy",
    "ReadConfig": "lmworks.data.config",
    "SourceConfig": "lmworks.data.config",
    "TokenDataset": "lmworks.data.token_dataset",
    "TokenWriter": "lmworks.data.token_dataset",
    "TokenizeConfig": "lmworks.data.config",
    "annotate_document": "lmworks.data.annotate.annotating",
    "apply_edits": "lmworks.data.edits",
    "default_policy": "lmworks.data.cleaning.policy",
    "describe_loader": "lmworks.data.loader_report",
    "read_documents": "lmworks.data.reading",
    "read_ledger": "lmworks.data.cleaning.ledger",
    "read_pairs": "lmworks.data.pairs",
    "read_policy": "lmworks.data.cleaning.policy",
    "write_documents": "lmworks.data.store",
}

__all__ = [
    "AnnotateConfig",
    "BalanceConfig",
    "Batch",
    "CleanText",
    "DocumentStore",
    "Loader",
    "LoaderConfig",
    "PairBatch",
    "PairLoader",
    "PairLoaderConfig",
    "Policy",
    "ReadConfig",
    "SourceConfig",
    "TokenDataset",
    "TokenWriter",
    "TokenizeConfig",
    "annotate_document",
    "apply_edits",
    "default_policy",
    "describe_loader",
    "read_documents",
    "read_ledger",
    "read_pairs",
    "read_policy",
    "write_documents",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'lmworks.data' has no attribute {name!r}")
