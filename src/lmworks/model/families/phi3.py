"""Phi-3 and Phi-4-mini (`phi3`), without long contexts, whose rotation (`longrope`) depends on the length of a text."""

from lmworks.model import presets
from lmworks.model.config import ModelConfig, Rope
from lmworks.model.families import common
from lmworks.model.huggingface import (
    Document,
    Family,
    Fused,
    JsonObject,
    Setting,
    UnsupportedModel,
    bare_model,
    language_model,
    last_token_classifier,
)


def _unscaled(rope: Rope | None, kind: str) -> Rope:
    """Whatever else its files call a scaling, `yarn` included, is `longrope` to `transformers`."""
    if rope is None or rope.scaling is not None:
        raise UnsupportedModel(f"rope_type = {kind!r} is not supported in phi3")
    return rope


def _read_rope(document: Document) -> Rope:
    rope = common.read_rope(document, 10_000.0, fraction=1.0)
    return _unscaled(rope, rope.scaling.kind if rope.scaling else "default")


def _write_rope(config: ModelConfig) -> JsonObject:
    return common.write_rope(_unscaled(common.first_block(config).attention.rope, "scaled"), fraction=1.0)


PHI3 = Family(
    model_type="phi3",
    prefix="model.",
    preset=presets.phi3,
    settings=(
        *common.LLAMA_SIZES,
        common.window(None),
        Setting("rope", _read_rope, _write_rope),
        common.norm_eps("rms_norm_eps", 1e-5),
    ),
    fixed={"hidden_act": "silu"},
    architectures=(
        language_model("Phi3ForCausalLM"),
        bare_model("Phi3Model"),
        last_token_classifier("Phi3ForSequenceClassification"),
    ),
    modules=common.LLAMA_MODULES,
    fused=(
        Fused("layers.{}.self_attn.qkv_proj", common.QUERY_KEY_VALUE, common.split_heads, common.concatenate),
        Fused(
            "layers.{}.mlp.gate_up_proj",
            ("decoder.blocks.{}.feed_forward.gate", "decoder.blocks.{}.feed_forward.up"),
            lambda tensor, config: tensor.chunk(2),
            common.concatenate,
        ),
    ),
)
