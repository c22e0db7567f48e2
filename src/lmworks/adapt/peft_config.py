"""PEFT's `adapter_config.json`, in both directions."""

from collections.abc import Iterable, Mapping
from typing import Any

from lmworks.adapt.config import LoraConfig
from lmworks.config import from_mapping
from lmworks.model.huggingface import Document, JsonObject, UnsupportedModel

# What each field must be for the adapter to compute what is computed here; the first is what is meant by its absence.
_FIXED: dict[str, tuple[Any, ...]] = {
    "peft_type": (None, "LORA"),
    "bias": ("none",),
    # The others change the base model's weights before they are adapted, or A and B themselves while they are loaded.
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),
}
# Fields that say where an adapter comes from, how it was trained or loaded, and what the tensors' shapes say as well.
_IRRELEVANT = {
    *("auto_mapping", "base_model_name_or_path", "eva_config", "fan_in_fan_out", "inference_mode", "loftq_config"),
    *("lora_ga_config", "corda_config", "megatron_config", "megatron_core", "peft_version", "qalora_group_size"),
    *("revision", "runtime_config", "task_type"),
}
_NAMES = ("target_modules", "exclude_modules", "layers_pattern")


def read_peft_config(document: Document) -> LoraConfig:
    """UnsupportedModel names the first field that makes another adapter than a plain LoRA: DoRA (`use_dora`), trained
    biases, `modules_to_save`, `target_parameters` and their kind, also one that we do not know, unless it is empty or
    false. ValueError for a value of another type."""
    for name, allowed in _FIXED.items():
        if (found := document.get(name, allowed[0])) not in allowed:
            supported = ", ".join(repr(value) for value in allowed if value is not None)
            raise UnsupportedModel(f"adapter_config.json: {name} = {found!r} is not supported; supported: {supported}")
    ours = LoraConfig.__dataclass_fields__
    for name, value in document.items():
        if value and name not in ours and name not in _FIXED and name not in _IRRELEVANT:
            raise UnsupportedModel(
                f"adapter_config.json: {name} = {value!r} is not supported; merge the adapter into its base with "
                "PEFT's merge_and_unload(), save that, and load it as a model"
            )
    values = {name: document[name] for name in ours if document.get(name) is not None}
    for name in ("layers_to_transform", "layers_pattern"):
        if isinstance(values.get(name), int | str):
            values[name] = [values[name]]
    return from_mapping(LoraConfig, values, ["adapter_config.json"])


def write_peft_config(
    ranks: Mapping[str, int], alphas: Mapping[str, float], others: Iterable[str], task: str | None, base: str
) -> JsonObject:
    """The document for layers with these ranks and alphas, by PEFT's full names; `others` are the layers without an
    adapter. `task` is PEFT's task type, and `base` where the base model is."""
    rank, alpha = _most_common(ranks.values()), _most_common(alphas.values())
    return {
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": _short_names(ranks, set(others)),
        "rank_pattern": {name: other for name, other in ranks.items() if other != rank},
        "alpha_pattern": {name: other for name, other in alphas.items() if other != alpha},
        "bias": "none",
        "lora_dropout": 0.0,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "modules_to_save": None,
    }


def _short_names(names: Iterable[str], others: set[str]) -> list[str]:
    """The last part of a name where it leads to no other layer, the whole name elsewhere."""
    taken = {name.rpartition(".")[2] for name in others}
    lasts = {name: name.rpartition(".")[2] for name in names}
    return sorted({name if last in taken else last for name, last in lasts.items()})


def _most_common(values: Iterable[Any]) -> Any:
    values = list(values)
    return max(values, key=values.count)
