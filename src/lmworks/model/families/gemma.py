"""Gemma (`gemma`), Gemma 2 (`gemma2`) and the text models of Gemma 3 (`gemma3_text`)."""

from lmworks.model import presets
from lmworks.model.config import ModelConfig, Rope
from lmworks.model.families import common
from lmworks.model.families.family import (
    Document,
    Family,
    JsonObject,
    Setting,
    bare_model,
    decoder_classes,
    language_model,
    last_token_classifier,
    setting,
)

_SIZES = (
    *common.LLAMA_SIZES,
    common.head_dim(256),  # the later of two head_dim counts
    common.norm_eps("rms_norm_eps", 1e-6),
    common.ATTENTION_BIAS,
)
_SOFTCAP = "final_logit_softcapping"
_SANDWICH = {
    **common.LLAMA_MODULES,
    "decoder.blocks.{}.attention_post_norm": "layers.{}.post_attention_layernorm",
    "decoder.blocks.{}.feed_forward_norm": "layers.{}.pre_feedforward_layernorm",
    "decoder.blocks.{}.feed_forward_post_norm": "layers.{}.post_feedforward_layernorm",
}

GEMMA = Family(
    model_type="gemma",
    prefix="model.",
    preset=presets.gemma,
    settings=(*_SIZES, common.rope()),
    # "gelu" is what the first files say, and the tanh form is what was meant and is computed.
    fixed={
        "hidden_act": ("gelu_pytorch_tanh", "gelu"),
        "hidden_activation": (None, "gelu_pytorch_tanh"),
        "use_bidirectional_attention": (None, False),
    },
    architectures=decoder_classes("Gemma", tied=True),
    modules=common.LLAMA_MODULES,
)


def _read_scale(document: Document) -> float | None:
    """The root of `query_pre_attn_scalar` divides the scores; None, as in a preset, where it is the size of a head."""
    scalar = document.get("query_pre_attn_scalar", 256)
    return None if scalar == document.get("head_dim", 256) else scalar**-0.5


def _write_scale(config: ModelConfig) -> JsonObject:
    attention = common.first_block(config).attention
    return {"query_pre_attn_scalar": attention.head_dim if attention.scale is None else round(attention.scale**-2)}


GEMMA2 = Family(
    model_type="gemma2",
    prefix="model.",
    preset=presets.gemma2,
    settings=(
        *_SIZES,
        common.rope(),
        common.window(4096),
        common.windowed(lambda document, layer: layer % 2 == 0),
        Setting("scale", _read_scale, _write_scale),
        setting(
            "attention_softcap",
            "attn_logit_softcapping",
            lambda c: common.first_block(c).attention.softcap,
            50.0,
            nullable=True,
        ),
    ),
    fixed={"hidden_activation": "gelu_pytorch_tanh", "use_bidirectional_attention": (None, False)},
    architectures=decoder_classes("Gemma2", tied=True, softcap=(_SOFTCAP, 30.0)),
    modules=_SANDWICH,
)


_THETAS = {"full_attention": 1_000_000.0, "sliding_attention": 10_000.0}


def _read_rope(document: Document, kind: str) -> Rope:
    """`rope_parameters` of each kind of layer in newer files; in older ones `rope_theta` and `rope_scaling` are those
    of the full layers, `rope_local_base_freq` is the sliding ones'."""
    parameters = dict((document.get("rope_parameters") or {}).get(kind) or {})
    if kind == "full_attention":
        parameters |= document.get("rope_scaling") or {}
    older = document.get("rope_theta" if kind == "full_attention" else "rope_local_base_freq")
    theta = float(parameters.get("rope_theta") or older or _THETAS[kind])
    return common.rope_from(parameters, theta, 1.0, document)


def _write_ropes(config: ModelConfig) -> JsonObject:
    attentions = [block.attention for block in config.stacks[-1].blocks]
    full = next((a.rope for a in attentions if a.pattern is None), Rope(_THETAS["full_attention"]))
    local = next((a.rope for a in attentions if a.pattern is not None), Rope(_THETAS["sliding_attention"]))
    older = common.write_rope(full) | {"rope_local_base_freq": local.theta if local else None}
    ropes = {"full_attention": common.rope_parameters(full), "sliding_attention": common.rope_parameters(local)}
    return older | {"rope_parameters": ropes}


GEMMA3 = Family(
    model_type="gemma3_text",
    prefix="model.",
    preset=presets.gemma3,
    settings=(
        *_SIZES,
        Setting("rope", lambda d: _read_rope(d, "full_attention"), _write_ropes),
        Setting("local_rope", lambda d: _read_rope(d, "sliding_attention"), lambda c: {}),
        common.window(4096),
        common.windowed(lambda document, layer: (layer + 1) % document.get("sliding_window_pattern", 6) > 0),
        Setting("scale", _read_scale, _write_scale),
    ),
    fixed={
        "hidden_activation": "gelu_pytorch_tanh",
        "use_bidirectional_attention": (None, False),
        "attn_logit_softcapping": None,
    },
    architectures=(
        language_model("Gemma3ForCausalLM", tied=True, softcap=(_SOFTCAP, None)),
        bare_model("Gemma3TextModel"),
        last_token_classifier("Gemma3TextForSequenceClassification"),
    ),
    modules={
        **_SANDWICH,
        "decoder.blocks.{}.attention.query_norm": "layers.{}.self_attn.q_norm",
        "decoder.blocks.{}.attention.key_norm": "layers.{}.self_attn.k_norm",
    },
)
