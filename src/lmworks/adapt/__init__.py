"""Adapters: small changes to a model's weights that are kept, sent and switched by themselves."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.adapt.adapter import add_adapter, load, load_adapter, save_adapter, trained_weights
    from lmworks.adapt.adapter_merge import merge, merge_adapter, merge_difference
    from lmworks.adapt.config import BottleneckConfig, FullConfig, IA3Config, LoraConfig, Method, PrefixConfig
    from lmworks.adapt.lora import Lora, LowRank, initialise_lora
    from lmworks.adapt.lora_layers import lora_of, trainable_lora
    from lmworks.adapt.multi_lora import AdapterIndex, apply, with_lora
    from lmworks.adapt.peft_lora import read_lora, write_lora
    from lmworks.adapt.qlora import quantise_base

__getattr__, __all__ = lazy_exports(__name__, __file__)
