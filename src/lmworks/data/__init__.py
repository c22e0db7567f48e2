"""Raw sources into documents, documents into token shards, shards into batches."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.data.annotate.annotating import annotate_document
    from lmworks.data.annotate.config import AnnotateConfig
    from lmworks.data.balance.config import BalanceConfig
    from lmworks.data.batching import Batch
    from lmworks.data.cleaning.ledger import read_ledger
    from lmworks.data.cleaning.policy import Policy, default_policy, read_policy
    from lmworks.data.config import GroupLoaderConfig, LoaderConfig, ReadConfig, SourceConfig, TokenizeConfig
    from lmworks.data.edits import CleanText, apply_edits
    from lmworks.data.group_loader import GroupLoader
    from lmworks.data.loader import Loader, describe_loader
    from lmworks.data.reading import read_documents
    from lmworks.data.store import DocumentStore, write_documents
    from lmworks.data.token_dataset import TokenDataset, TokenWriter
    from lmworks.data.token_groups import GroupBatch, TokenGroup, TokenGroups, join_groups
    from lmworks.data.training_rows import group_completions, pair_groups, read_pairs

__getattr__, __all__ = lazy_exports(__name__, __file__)
