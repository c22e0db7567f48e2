"""Adapters: small changes to a model's weights that are kept, sent and switched by themselves."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmworks.adapt.adapted import AdapterIndex as AdapterIndex
    from lmworks.adapt.adapted import apply as apply
    from lmworks.adapt.adapted import with_lora as with_lora
    from lmworks.adapt.config import LoraConfig as LoraConfig
    from lmworks.adapt.initialising import initialise_lora as initialise_lora
    from lmworks.adapt.lora import Lora as Lora
    from lmworks.adapt.lora import LowRank as LowRank
    from lmworks.adapt.merging import merge as merge
    from lmworks.adapt.peft_folder import read_lora as read_lora
    from lmworks.adapt.peft_folder import write_lora as write_lora

_PUBLIC = {
    "AdapterIndex": "adapted",
    "Lora": "lora",
    "LoraConfig": "config",
    "LowRank": "lora",
    "apply": "adapted",
    "initialise_lora": "initialising",
    "merge": "merging",
    "read_lora": "peft_folder",
    "with_lora": "adapted",
    "write_lora": "peft_folder",
}

__all__ = [
    "AdapterIndex",
    "Lora",
    "LoraConfig",
    "LowRank",
    "apply",
    "initialise_lora",
    "merge",
    "read_lora",
    "with_lora",
    "write_lora",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
