"""Adapters: small changes to a model's weights that are kept, sent and switched by themselves."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.adapt.adapted import AdapterIndex, apply, with_lora
    from lmworks.adapt.config import LoraConfig
    from lmworks.adapt.initialising import initialise_lora
    from lmworks.adapt.lora import Lora, LowRank
    from lmworks.adapt.merging import merge
    from lmworks.adapt.peft_folder import read_lora, write_lora

__getattr__, __all__ = lazy_exports(__name__, __file__)
