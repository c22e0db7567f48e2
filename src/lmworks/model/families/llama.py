"""LLaMA and the decoders in its layout: Mistral, Mixtral, Qwen2, Qwen3, Phi-3."""

from lmworks.model import presets
from lmworks.model.config import MixtureOfExperts, ModelConfig, Rope, UnsupportedModel
from lmworks.model.families import common
from lmworks.model.families.family import Document, Family, Fused, JsonObject, Setting, decoder_classes, setting


def _heads(config: ModelConfig) -> int:
    """`transformers` has no Llama whose heads do not divide its width, as a pruned one's: as a Mistral it has."""
    heads = common.first_block(config).attention.heads
    if config.embedding.width % heads:
        raise UnsupportedModel(f"a Llama of width {config.embedding.width} has no {heads} heads")
    return heads


LLAMA = Family(
    model_type="llama",
    prefix="model.",
    preset=presets.llama,
    settings=(
        common.VOCABULARY,
        common.WIDTH,
        common.LAYERS,
        setting("heads", "num_attention_heads", _heads),
        common.kv_heads(),
        common.HIDDEN,
        common.context_length(2048),
        common.head_dim(),
        common.rope(),
        common.norm_eps("rms_norm_eps", 1e-6),
        common.ATTENTION_BIAS,
        setting("feed_forward_bias", "mlp_bias", lambda c: common.feed_forward(c).bias, False),
    ),
    fixed={"hidden_act": "silu", "rope_interleaved": (None, False)},
    architectures=decoder_classes("Llama"),
    modules=common.LLAMA_MODULES,
    ignored=r".*rotary_emb\.inv_freq",
)


MISTRAL = Family(
    model_type="mistral",
    prefix="model.",
    preset=presets.mistral,
    settings=(*common.LLAMA_SIZES, common.window(4096), common.rope(), common.norm_eps("rms_norm_eps", 1e-6)),
    fixed={"hidden_act": "silu"},
    architectures=decoder_classes("Mistral"),
    modules=common.LLAMA_MODULES,
)


# Files of Mixtral keep every expert's matrices by themselves; `transformers` joins them when it loads.


def _mixture(config: ModelConfig) -> MixtureOfExperts:
    mixture = common.first_block(config).feed_forward
    if not isinstance(mixture, MixtureOfExperts):
        raise UnsupportedModel("every layer of Mixtral has experts")
    return mixture


MIXTRAL = Family(
    model_type="mixtral",
    prefix="model.",
    preset=presets.mixtral,
    settings=(
        *common.LLAMA_SIZES,
        setting("experts", "num_local_experts", lambda c: _mixture(c).experts, 8),
        setting("top_k", "num_experts_per_tok", lambda c: _mixture(c).top_k, 2),
        common.window(None),
        common.rope(1_000_000.0),
        common.norm_eps("rms_norm_eps", 1e-5),
    ),
    fixed={"hidden_act": "silu"},
    architectures=decoder_classes("Mixtral"),
    modules={
        **common.LLAMA_MODULES,
        "decoder.blocks.{}.feed_forward.router": "layers.{}.block_sparse_moe.gate",
        "decoder.blocks.{}.feed_forward.experts.{}.gate": "layers.{}.block_sparse_moe.experts.{}.w1",
        "decoder.blocks.{}.feed_forward.experts.{}.down": "layers.{}.block_sparse_moe.experts.{}.w2",
        "decoder.blocks.{}.feed_forward.experts.{}.up": "layers.{}.block_sparse_moe.experts.{}.w3",
    },
)


# ---------------------------------------------------------------------------------------------------------------------
# Qwen


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


_SETTINGS = (
    *common.LLAMA_SIZES,
    Setting("window", _read_window, _write_window),
    common.windowed(lambda d, layer: _read_window(d) is not None and layer >= d.get("max_window_layers", 28)),
    common.rope(),
    common.norm_eps("rms_norm_eps", 1e-6),
)

QWEN2 = Family(
    model_type="qwen2",
    prefix="model.",
    preset=presets.qwen2,
    settings=_SETTINGS,
    fixed={"hidden_act": "silu"},
    architectures=decoder_classes("Qwen2"),
    modules=common.LLAMA_MODULES,
)

QWEN3 = Family(
    model_type="qwen3",
    prefix="model.",
    preset=presets.qwen3,
    settings=(*_SETTINGS, common.head_dim(128), common.ATTENTION_BIAS),  # the later of two head_dim counts
    fixed={"hidden_act": "silu"},
    architectures=decoder_classes("Qwen3"),
    modules={
        **common.LLAMA_MODULES,
        "decoder.blocks.{}.attention.query_norm": "layers.{}.self_attn.q_norm",
        "decoder.blocks.{}.attention.key_norm": "layers.{}.self_attn.k_norm",
    },
)


# ---------------------------------------------------------------------------------------------------------------------
# Phi-3 and Phi-4-mini, without long contexts, whose rotation (`longrope`) depends on the length of a text


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
    architectures=decoder_classes("Phi3"),
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
