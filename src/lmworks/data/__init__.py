"""Documents into token shards, shards into batches."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.data.batches import Batch
    from lmworks.data.config import GroupLoaderConfig, LoaderConfig, SourceConfig, TokenizeConfig
    from lmworks.data.group_loader import GroupLoader
    from lmworks.data.loader import Loader, describe_loader
    from lmworks.data.token_dataset import TokenDataset, TokenWriter
    from lmworks.data.token_groups import GroupBatch, TokenGroup, TokenGroups, join_groups
    from lmworks.data.training_rows import group_completions, pair_groups, read_pairs

__getattr__, __all__ = lazy_exports(__name__, __file__)
