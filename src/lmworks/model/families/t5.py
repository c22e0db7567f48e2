"""T5, T5 1.1 and Flan-T5 (`t5`), and Switch Transformers (`switch_transformers`)."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from lmworks.model import presets
from lmworks.model.config import Head, LanguageModelHead, MixtureOfExperts, ModelConfig, RelativeBias, UnsupportedModel
from lmworks.model.families import common
from lmworks.model.families.family import (
    ACTIVATIONS,
    Architecture,
    Document,
    Family,
    JsonObject,
    Setting,
    bare_model,
    setting,
)


def _language_model(name: str) -> Architecture:
    """The class with the language model head, whose logits are scaled by width ** -0.5 in the first T5, and not in 1.1.

    Since 5.0 `transformers` notes `scale_decoder_outputs` and always says that the head is tied: see `_stored_head`.
    """

    def read_head(document: Document, config: ModelConfig) -> Head:
        tied = document.get("tie_word_embeddings", True)
        scaled = tied and document.get("scale_decoder_outputs", True)
        return LanguageModelHead(tied, scale=config.embedding.width**-0.5 if scaled else None)

    def write_head(head: LanguageModelHead) -> JsonObject:
        return {"tie_word_embeddings": head.tied, **({"scale_decoder_outputs": False} if head.scale is None else {})}

    return Architecture(name, read_head, LanguageModelHead, write_head, {"head.projection": "lm_head"})


def _stored_head(config: ModelConfig, names: Collection[str]) -> ModelConfig:
    """A head that is not scaled may be tied or not, whatever config.json says: it is its own where the file has it."""
    match config.head:
        case LanguageModelHead(tied=True, scale=None) if "lm_head.weight" in names:
            return replace(config, head=LanguageModelHead(tied=False))
    return config


def _relative_bias(config: ModelConfig) -> RelativeBias:
    bias = config.stacks[0].relative_bias
    if bias is None:
        raise UnsupportedModel("T5 has a relative bias")
    return bias


_SETTINGS = (
    common.VOCABULARY,
    setting("width", "d_model", lambda c: c.embedding.width),
    setting("layers", "num_layers", lambda c: len(c.stacks[0].blocks)),
    setting("heads", "num_heads", lambda c: common.first_block(c).attention.heads),
    setting("head_dim", "d_kv", lambda c: common.first_block(c).attention.head_dim, 64),
    setting("hidden", "d_ff", lambda c: common.feed_forward(c).hidden),
    setting("context_length", "n_positions", lambda c: c.context_length, 512),
    setting("buckets", "relative_attention_num_buckets", lambda c: _relative_bias(c).buckets, 32),
    setting("max_distance", "relative_attention_max_distance", lambda c: _relative_bias(c).max_distance, 128),
    common.norm_eps("layer_norm_epsilon", 1e-6),
)


def _decoder_layers(document: Document) -> int:
    """As many as the encoder's unless the file says otherwise."""
    return document.get("num_decoder_layers") or document["num_layers"]


_DECODER_LAYERS = Setting(
    "decoder_layers",
    _decoder_layers,
    lambda c: {} if c.decoder is None else {"num_decoder_layers": len(c.decoder.blocks)},
)


def _modules(feed_forward: str) -> dict[str, str]:
    """Our names → theirs; `feed_forward` is what they call that part of a layer."""
    names = {"embedding.tokens": "shared"}
    for stack, last in (("encoder", 1), ("decoder", 2)):
        our_block, their_layer = f"{stack}.blocks.{{}}", f"{stack}.block.{{}}.layer"
        for projection in ("query", "key", "value", "output"):
            names[f"{our_block}.attention.{projection}"] = f"{their_layer}.0.SelfAttention.{projection[0]}"
            names[f"{our_block}.cross_attention.{projection}"] = f"{their_layer}.1.EncDecAttention.{projection[0]}"
        names |= {
            f"{stack}.relative_bias.table": f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            f"{stack}.norm": f"{stack}.final_layer_norm",
            f"{our_block}.attention_norm": f"{their_layer}.0.layer_norm",
            f"{our_block}.cross_attention_norm": f"{their_layer}.1.layer_norm",
            f"{our_block}.feed_forward_norm": f"{their_layer}.{last}.layer_norm",
            f"{our_block}.feed_forward.up": f"{their_layer}.{last}.{feed_forward}.wi",
            f"{our_block}.feed_forward.down": f"{their_layer}.{last}.{feed_forward}.wo",
        }
    return names


_COPIES: dict[str, str] = {f"{stack}.embed_tokens.weight": "shared.weight" for stack in ("encoder", "decoder")}


def _t5(encoder_only: bool, **arguments: Any) -> ModelConfig:
    config = presets.t5(**arguments)
    return replace(config, decoder=None) if encoder_only else config


def _activation(document: Document) -> str:
    """`feed_forward_proj` may say it together with the gate, where `gated-gelu` means the tanh form."""
    combined = document.get("feed_forward_proj", "relu")
    name = document.get("dense_act_fn") or ("gelu_new" if combined == "gated-gelu" else combined.split("-")[-1])
    if name not in ACTIVATIONS:
        raise UnsupportedModel(f"feed_forward_proj = {combined!r} is not supported")
    return ACTIVATIONS[name]


def _feed_forward(config: ModelConfig) -> JsonObject:
    network = common.feed_forward(config)
    name = next(their_name for their_name, our_name in ACTIVATIONS.items() if our_name == network.activation)
    combined = f"gated-{name.removesuffix('_new')}" if network.gated else name
    return {"feed_forward_proj": combined, "dense_act_fn": name, "is_gated_act": network.gated}


def _gated_modules(config: ModelConfig) -> dict[str, str]:
    if not common.feed_forward(config).gated:
        return {}
    layers = (("encoder", "encoder.block.{}.layer.1"), ("decoder", "decoder.block.{}.layer.2"))
    projections = (("gate", "wi_0"), ("up", "wi_1"))
    return {
        f"{stack}.blocks.{{}}.feed_forward.{our_name}": f"{layer}.DenseReluDense.{their_name}"
        for stack, layer in layers
        for our_name, their_name in projections
    }


T5 = Family(
    model_type="t5",
    prefix="",
    preset=_t5,
    settings=(
        *_SETTINGS,
        Setting("encoder_only", lambda d: d.get("architectures") == ["T5EncoderModel"], lambda c: {}),
        _DECODER_LAYERS,
        Setting("activation", _activation, _feed_forward),
        Setting(
            "gated",
            lambda d: d.get("is_gated_act", d.get("feed_forward_proj", "relu").startswith("gated-")),
            lambda c: {},
        ),
    ),
    fixed={},
    architectures=(
        _language_model("T5ForConditionalGeneration"),
        bare_model("T5Model"),
        bare_model("T5EncoderModel"),
        _language_model("T5WithLMHeadModel"),  # the first one's name in the first files
    ),
    modules=_modules("DenseReluDense"),
    variant=_gated_modules,
    copies=_COPIES,
    stored=_stored_head,
    # An empty place in the first files that were converted.
    ignored=r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",
)


# ---------------------------------------------------------------------------------------------------------------------
# Switch Transformers, whose experts have a fixed capacity for each text


def _mixture(config: ModelConfig) -> MixtureOfExperts:
    for stack in config.stacks:
        for block in stack.blocks:
            if isinstance(block.feed_forward, MixtureOfExperts):
                return block.feed_forward
    raise UnsupportedModel("a Switch Transformer has experts")


def _sparse_every(argument: str, stack: int) -> Setting:
    """Which layers have experts: every how many, or, in a file without it, how many, which gives the step."""
    side = ("encoder", "decoder")[stack]

    def read(document: Document) -> int:
        layers = (document["num_layers"], _decoder_layers(document))[stack]
        # Zero layers with experts are computed as one by theirs.
        return document.get(f"{side}_sparse_step", layers // (document.get(f"num_sparse_{side}_layers", 3) or 1))

    def write(config: ModelConfig) -> JsonObject:
        blocks = config.stacks[stack].blocks
        sparse = [layer for layer, block in enumerate(blocks) if isinstance(block.feed_forward, MixtureOfExperts)]
        step = sparse[1] - sparse[0] if len(sparse) > 1 else len(blocks) if sparse else 0
        return {f"num_sparse_{side}_layers": len(sparse), f"{side}_sparse_step": step}

    return Setting(argument, read, write)


def _switch_modules() -> dict[str, str]:
    names = _modules("mlp")
    for stack, last in (("encoder", 1), ("decoder", 2)):
        our_network, their_network = f"{stack}.blocks.{{}}.feed_forward", f"{stack}.block.{{}}.layer.{last}.mlp"
        names[f"{our_network}.router"] = f"{their_network}.router.classifier"
        for projection, name in (("up", "wi"), ("down", "wo")):
            names[f"{our_network}.experts.{{}}.{projection}"] = f"{their_network}.experts.expert_{{}}.{name}"
    return names


SWITCH = Family(
    model_type="switch_transformers",
    prefix="",
    preset=presets.switch,
    settings=(
        *_SETTINGS,
        _DECODER_LAYERS,
        common.activation("dense_act_fn", "relu"),
        setting("experts", "num_experts", lambda c: _mixture(c).experts, 8),
        setting("capacity", "expert_capacity", lambda c: _mixture(c).capacity, 64),
        _sparse_every("sparse_every", 0),
        _sparse_every("decoder_sparse_every", 1),
    ),
    fixed={"tie_word_embeddings": True, "router_bias": False, "router_dtype": "float32"},
    architectures=(
        _language_model("SwitchTransformersForConditionalGeneration"),
        bare_model("SwitchTransformersModel"),
    ),
    modules=_switch_modules(),
    copies=_COPIES,
)
