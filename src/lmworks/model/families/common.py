"""Settings that many families share: where a config holds what their presets ask for."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lmworks.model.config import (
    Block,
    FeedForward,
    LinearScaling,
    Llama3Scaling,
    MixtureOfExperts,
    ModelConfig,
    Rope,
    UnsupportedModel,
    Window,
    YarnScaling,
)
from lmworks.model.families.family import ACTIVATIONS, Document, JsonObject, Setting, setting


def first_block(config: ModelConfig) -> Block:
    return config.stacks[-1].blocks[0]


def feed_forward(config: ModelConfig) -> FeedForward:
    """The dense network of the first block, or its experts'."""
    network = first_block(config).feed_forward
    return network.expert if isinstance(network, MixtureOfExperts) else network


VOCABULARY = setting("vocabulary", "vocab_size", lambda c: c.embedding.vocabulary)
WIDTH = setting("width", "hidden_size", lambda c: c.embedding.width)
LAYERS = setting("layers", "num_hidden_layers", lambda c: len(c.stacks[-1].blocks))
HEADS = setting("heads", "num_attention_heads", lambda c: first_block(c).attention.heads)
HIDDEN = setting("hidden", "intermediate_size", lambda c: feed_forward(c).hidden)
SIZES = (VOCABULARY, WIDTH, LAYERS, HEADS, HIDDEN)
ATTENTION_BIAS = setting("attention_bias", "attention_bias", lambda c: first_block(c).attention.bias, False)


def kv_heads() -> Setting:
    """`num_key_value_heads`, which is the number of heads where it is missing."""
    return Setting(
        "kv_heads",
        lambda d: d.get("num_key_value_heads") or d["num_attention_heads"],
        lambda c: {"num_key_value_heads": first_block(c).attention.kv_heads},
    )


def context_length(default: int) -> Setting:
    return setting("context_length", "max_position_embeddings", lambda c: c.context_length, default)


def activation(name: str, default: str) -> Setting:
    return setting("activation", name, lambda c: feed_forward(c).activation, default, ACTIVATIONS)


def norm_eps(name: str, default: float) -> Setting:
    return setting("norm_eps", name, lambda c: first_block(c).norm.eps, default)


def head_dim(default: int | None = None) -> Setting:
    return setting("head_dim", "head_dim", lambda c: first_block(c).attention.head_dim, default)


_LENGTH = setting("context_length", "max_position_embeddings", lambda c: c.context_length)
LLAMA_SIZES = (VOCABULARY, WIDTH, LAYERS, HEADS, kv_heads(), HIDDEN, _LENGTH, head_dim())


# ---------------------------------------------------------------------------------------------------------------------
# Tensors that are several of ours: cut along their rows, which are outputs; a bias the same way

QUERY_KEY_VALUE = tuple(f"decoder.blocks.{{}}.attention.{projection}" for projection in ("query", "key", "value"))


def split_heads(tensor: Tensor, config: ModelConfig) -> Sequence[Tensor]:
    """Split a fused matrix: all queries, then all keys, then all values."""
    attention = first_block(config).attention
    return tensor.split([heads * attention.head_dim for heads in (attention.heads, *[attention.kv_heads] * 2)])


def concatenate(tensors: Sequence[Tensor], config: ModelConfig) -> Tensor:
    return torch.cat(list(tensors))


# ---------------------------------------------------------------------------------------------------------------------
# Sliding windows, in all layers or in those that `layer_types` says


def window(default: int | None) -> Setting:
    """`sliding_window`; null is none, and `default` stands where it is missing."""
    return setting("window", "sliding_window", window_of, default, nullable=True)


def window_of(config: ModelConfig) -> int | None:
    """The size of the first window; UnsupportedModel for another pattern."""
    patterns = [block.attention.pattern for block in config.stacks[-1].blocks if block.attention.pattern]
    if not all(isinstance(pattern, Window) for pattern in patterns):
        raise UnsupportedModel("this family has no other pattern than a window")
    return next((pattern.size for pattern in patterns if isinstance(pattern, Window)), None)


def windowed(default: Callable[[Document, int], bool]) -> Setting:
    """`layer_types`, whose `default` says of a layer's number whether it has the window, where they are missing."""

    def read(document: Document) -> tuple[bool, ...]:
        types = document.get("layer_types")
        if types is None:
            return tuple(default(document, layer) for layer in range(document["num_hidden_layers"]))
        if unknown := set(types) - set(_LAYER_TYPES):
            raise UnsupportedModel(f"layer_types {sorted(unknown)} are not supported; supported: {_LAYER_TYPES}")
        if len(types) != document["num_hidden_layers"]:
            raise UnsupportedModel(f"layer_types has {len(types)} entries for {document['num_hidden_layers']} layers")
        return tuple(name == "sliding_attention" for name in types)

    def write(config: ModelConfig) -> JsonObject:
        blocks = config.stacks[-1].blocks
        return {"layer_types": [_LAYER_TYPES[block.attention.pattern is not None] for block in blocks]}

    return Setting("windowed", read, write)


_LAYER_TYPES = ("full_attention", "sliding_attention")


# ---------------------------------------------------------------------------------------------------------------------
# Rotary positions: `rope_parameters` in newer files, `rope_theta` and `rope_scaling` in older ones


def rope(default_theta: float = 10_000.0, fraction: float | None = None) -> Setting:
    """`fraction` is the default of `partial_rotary_factor`, None where a family always rotates the whole head."""
    return Setting(
        "rope",
        lambda d: read_rope(d, default_theta, fraction),
        lambda c: write_rope(first_block(c).attention.rope, fraction),
    )


def read_rope(document: Document, default_theta: float, fraction: float | None = None) -> Rope:
    parameters = document.get("rope_scaling") or document.get("rope_parameters") or {}
    theta = float(parameters.get("rope_theta") or document.get("rope_theta") or default_theta)
    rotary_fraction = (
        parameters.get("partial_rotary_factor") or document.get("partial_rotary_factor") or fraction or 1.0
    )
    if fraction is None and rotary_fraction != 1.0:
        raise UnsupportedModel(f"partial_rotary_factor = {rotary_fraction} is not supported; supported: 1.0")
    return rope_from(parameters, theta, rotary_fraction, document)


def rope_from(parameters: Document, theta: float, fraction: float, document: Document) -> Rope:
    """The rotation that one set of `parameters` describes; `document` has the context length."""
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    length = parameters.get("original_max_position_embeddings") or document.get("max_position_embeddings")
    match kind:
        case "default":
            return Rope(theta, fraction)
        case "linear":
            return Rope(theta, fraction, LinearScaling(float(parameters["factor"])))
        case "llama3" if isinstance(length, int):
            borders = float(parameters["low_freq_factor"]), float(parameters["high_freq_factor"])
            return Rope(theta, fraction, Llama3Scaling(float(parameters["factor"]), length, *borders))
        case "yarn" if not parameters.get("mscale") and parameters.get("factor") and isinstance(length, int):
            betas = float(parameters.get("beta_fast") or 32), float(parameters.get("beta_slow") or 1)
            rest = parameters.get("attention_factor"), parameters.get("truncate", True)
            return Rope(theta, fraction, YarnScaling(float(parameters["factor"]), length, *betas, *rest))
    raise UnsupportedModel(
        f"rope_type = {kind!r} with {', '.join(parameters)} is not supported; "
        "supported: linear, llama3, yarn without mscale"
    )


def write_rope(rope: Rope | None, fraction: float | None = None) -> JsonObject:
    """The fields of both generations; older versions of `transformers` read the last two."""
    parameters = rope_parameters(rope, fraction)
    scaled = parameters["rope_type"] != "default"
    return {
        "rope_parameters": parameters,
        "rope_theta": parameters["rope_theta"],
        "rope_scaling": parameters if scaled else None,
    }


def rope_parameters(rope: Rope | None, fraction: float | None = None) -> JsonObject:
    """The inverse of `rope_from`."""
    if rope is None or (fraction is None and rope.fraction != 1.0):
        raise UnsupportedModel("this family rotates the whole of each head")
    parameters: JsonObject = {"rope_theta": rope.theta, "rope_type": "default"}
    if fraction is not None:
        parameters["partial_rotary_factor"] = rope.fraction
    match rope.scaling:
        case LinearScaling(factor):
            parameters |= {"rope_type": "linear", "factor": factor}
        case Llama3Scaling(factor, length, low, high):
            parameters |= {"rope_type": "llama3", "factor": factor, "original_max_position_embeddings": length}
            parameters |= {"low_freq_factor": low, "high_freq_factor": high}
        case YarnScaling(factor, length, fast, slow, attention_factor, truncate):
            parameters |= {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": length}
            parameters |= {"beta_fast": fast, "beta_slow": slow, "truncate": truncate}
            parameters |= {} if attention_factor is None else {"attention_factor": attention_factor}
        case None:
            pass
    return parameters


# Our module names → theirs, of a decoder in the layout that LLaMA began and most have kept.
LLAMA_MODULES = {
    "embedding.tokens": "embed_tokens",
    "decoder.blocks.{}.attention_norm": "layers.{}.input_layernorm",
    "decoder.blocks.{}.attention.query": "layers.{}.self_attn.q_proj",
    "decoder.blocks.{}.attention.key": "layers.{}.self_attn.k_proj",
    "decoder.blocks.{}.attention.value": "layers.{}.self_attn.v_proj",
    "decoder.blocks.{}.attention.output": "layers.{}.self_attn.o_proj",
    "decoder.blocks.{}.feed_forward_norm": "layers.{}.post_attention_layernorm",
    "decoder.blocks.{}.feed_forward.gate": "layers.{}.mlp.gate_proj",
    "decoder.blocks.{}.feed_forward.up": "layers.{}.mlp.up_proj",
    "decoder.blocks.{}.feed_forward.down": "layers.{}.mlp.down_proj",
    "decoder.norm": "norm",
}
