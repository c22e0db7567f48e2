"""Qwen2, Qwen2.5 (`qwen2`) and Qwen3 (`qwen3`)."""

from lmworks.model import presets
from lmworks.model.config import ModelConfig
from lmworks.model.families import common
from lmworks.model.huggingface import (
    Document,
    Family,
    JsonObject,
    Setting,
    UnsupportedModel,
    bare_model,
    language_model,
    last_token_classifier,
)


def _read_window(document: Document) -> int | None:
    """`sliding_window` counts only where `use_sliding_window` says so."""
    if document.get("use_sliding_window", False):
        return document.get("sliding_window", 4096)
    if "sliding_attention" in (document.get("layer_types") or ()):
        raise UnsupportedModel("use_sliding_window = False contradicts the sliding_attention in layer_types")
    return None


def _write_window(config: ModelConfig) -> JsonObject:
    size = common.window_of(config)
    return {"use_sliding_window": False} if size is None else {"use_sliding_window": True, "sliding_window": size}


def _has_window(document: Document, layer: int) -> bool:
    return _read_window(document) is not None and layer >= document.get("max_window_layers", 28)


_SETTINGS = (
    *common.LLAMA_SIZES,
    Setting("window", _read_window, _write_window),
    common.windowed(_has_window),
    common.rope(),
    common.norm_eps("rms_norm_eps", 1e-6),
)

QWEN2 = Family(
    model_type="qwen2",
    prefix="model.",
    preset=presets.qwen2,
    settings=_SETTINGS,
    fixed={"hidden_act": "silu"},
    architectures=(
        language_model("Qwen2ForCausalLM"),
        bare_model("Qwen2Model"),
        last_token_classifier("Qwen2ForSequenceClassification"),
    ),
    modules=common.LLAMA_MODULES,
)

QWEN3 = Family(
    model_type="qwen3",
    prefix="model.",
    preset=presets.qwen3,
    settings=(*_SETTINGS, common.head_dim(128), common.ATTENTION_BIAS),  # the later of two head_dim counts
    fixed={"hidden_act": "silu"},
    architectures=(
        language_model("Qwen3ForCausalLM"),
        bare_model("Qwen3Model"),
        last_token_classifier("Qwen3ForSequenceClassification"),
    ),
    modules={
        **common.LLAMA_MODULES,
        "decoder.blocks.{}.attention.query_norm": "layers.{}.self_attn.q_norm",
        "decoder.blocks.{}.attention.key_norm": "layers.{}.self_attn.k_norm",
    },
)
