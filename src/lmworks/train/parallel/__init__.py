"""Training on several processes: how a run is laid out over them, outside of the model."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.train.parallel.config import ParallelConfig
    from lmworks.train.parallel.ranks import Ranks, join

__getattr__, __all__ = lazy_exports(__name__, __file__)
