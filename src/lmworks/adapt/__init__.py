"""Adapters: small changes to a model's weights that are kept, sent and switched by themselves."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.adapt.config import LoraConfig
    from lmworks.adapt.lora import Lora, LowRank, initialise_lora, merge
    from lmworks.adapt.lora_layers import lora_of, trainable_lora
    from lmworks.adapt.multi_lora import AdapterIndex, apply, with_lora
    from lmworks.adapt.peft_folder import read_lora, write_lora

__getattr__, __all__ = lazy_exports(__name__, __file__)
