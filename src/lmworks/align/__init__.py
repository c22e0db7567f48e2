"""Alignment: from what people, judges and programs prefer to a better policy."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.align.config import DPOConfig, KTOConfig, OfflineConfig, RewardConfig
    from lmworks.align.online_config import GRPOConfig, OnlineConfig, PPOConfig
    from lmworks.align.rewards import RewardSum, items_of

__getattr__, __all__ = lazy_exports(__name__, __file__, called=True)
