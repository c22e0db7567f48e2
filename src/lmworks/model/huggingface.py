"""Hugging Face's model folders: `config.json` and tensor names of each family, in both directions.

A family is a value too: how its config reads and writes, and what its tensors are called. Reading is strict where it
matters: a field that changes what the model computes must have a value we compute; anything else in the file is
ignored. Writing asks every family to express a config and takes the one that reads back as the very same config.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lmworks.model import presets
from lmworks.model.config import LanguageModelHead, ModelConfig, PoolHead

JsonObject = dict[str, Any]
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
}


class UnsupportedModel(ValueError):  # noqa: N818
    """A model that is described well, and that `lmworks` does not compute; the message names the field."""


@dataclass(frozen=True)
class Family:
    """One `model_type`.

    `modules` maps our module names to theirs, with `{}` for the number of a layer. `ignored` matches their tensors that
    hold nothing the forward uses.
    """

    model_type: str
    architecture: str
    read: Callable[[Mapping[str, Any]], ModelConfig]
    write: Callable[[ModelConfig], JsonObject]
    modules: Mapping[str, str]
    ignored: str

    def their_name(self, ours: str) -> str:
        """Name in a safetensors file of the parameter that we call `ours`."""
        module, _, parameter = ours.rpartition(".")
        layer = re.search(r"\.(\d+)\.", module)
        template = module if layer is None else module.replace(layer.group(), ".{}.", 1)
        return f"{self.modules[template].format(layer.group(1) if layer else '')}.{parameter}"


def read_config(document: Mapping[str, Any], pool: PoolHead | None = None) -> ModelConfig:
    """The architecture that a `config.json` describes; `pool` is the head of an embedding model, which it does not.

    UnsupportedModel names the first field whose value is not supported.
    """
    family = family_of(document.get("model_type"))
    architectures = document.get("architectures")
    if architectures and architectures != [family.architecture]:
        raise UnsupportedModel(f"architectures {architectures} is not supported; supported: [{family.architecture!r}]")
    config = family.read(document)
    if pool is None:
        return config
    if config.encoder is None:
        raise UnsupportedModel(f"pooling of a {family.model_type} model is not supported: it has no encoder")
    return ModelConfig(config.embedding, config.encoder, None, pool, config.context_length)


def write_config(config: ModelConfig) -> JsonObject:
    """The `config.json` of an architecture; UnsupportedModel when no family of Hugging Face's can express it."""
    for family in FAMILIES:
        try:
            document = family.write(config)
            if read_config(document, config.head if isinstance(config.head, PoolHead) else None) == config:
                return document
        except (AttributeError, UnsupportedModel):  # a part that this family needs, or does not know
            continue
    known = ", ".join(family.model_type for family in FAMILIES)
    raise UnsupportedModel(f"none of the families {known} can express this config: {config}")


def family_of(model_type: str | None) -> Family:
    for family in FAMILIES:
        if family.model_type == model_type:
            return family
    known = ", ".join(family.model_type for family in FAMILIES)
    raise UnsupportedModel(f"model_type {model_type!r} is not supported; supported: {known}")


# ---------------------------------------------------------------------------------------------------------------------
# LLaMA


def _read_llama(document: Mapping[str, Any]) -> ModelConfig:
    rope = document.get("rope_parameters") or {}  # where newer files keep rope_theta
    _require(document, "hidden_act", "silu", default="silu")
    _require(document, "rope_scaling", None)
    _require(rope, "rope_type", "default", default="default")
    _require(rope, "partial_rotary_factor", 1.0, default=1.0)
    _require(document, "rope_interleaved", False, default=False)
    _require(document, "quantization_config", None)
    heads = document["num_attention_heads"]
    return presets.llama(
        vocabulary=document["vocab_size"],
        width=document["hidden_size"],
        layers=document["num_hidden_layers"],
        heads=heads,
        kv_heads=document.get("num_key_value_heads") or heads,
        hidden=document["intermediate_size"],
        context_length=document.get("max_position_embeddings", 2048),
        head_dim=document.get("head_dim"),
        rope_theta=float(rope.get("rope_theta") or document.get("rope_theta", 10_000.0)),
        norm_eps=document.get("rms_norm_eps", 1e-6),
        tied=document.get("tie_word_embeddings", False),
        attention_bias=document.get("attention_bias", False),
        feed_forward_bias=document.get("mlp_bias", False),
    )


def _write_llama(config: ModelConfig) -> JsonObject:
    if config.decoder is None or not isinstance(config.head, LanguageModelHead):
        raise UnsupportedModel("llama is a decoder with a language model head")
    block = config.decoder.blocks[0]
    attention = block.attention
    if attention.rope is None:
        raise UnsupportedModel("llama has rotary positions")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.embedding.vocabulary,
        "hidden_size": config.embedding.width,
        "num_hidden_layers": len(config.decoder.blocks),
        "num_attention_heads": attention.heads,
        "num_key_value_heads": attention.kv_heads,
        "head_dim": attention.head_dim,
        "intermediate_size": block.feed_forward.hidden,
        "hidden_act": "silu",
        "max_position_embeddings": config.context_length,
        "rope_theta": attention.rope.theta,
        "rms_norm_eps": block.norm.eps,
        "tie_word_embeddings": config.head.tied,
        "attention_bias": attention.bias,
        "mlp_bias": block.feed_forward.bias,
    }


LLAMA = Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    read=_read_llama,
    write=_write_llama,
    modules={
        "embedding.tokens": "model.embed_tokens",
        "decoder.blocks.{}.attention_norm": "model.layers.{}.input_layernorm",
        "decoder.blocks.{}.attention.query": "model.layers.{}.self_attn.q_proj",
        "decoder.blocks.{}.attention.key": "model.layers.{}.self_attn.k_proj",
        "decoder.blocks.{}.attention.value": "model.layers.{}.self_attn.v_proj",
        "decoder.blocks.{}.attention.output": "model.layers.{}.self_attn.o_proj",
        "decoder.blocks.{}.feed_forward_norm": "model.layers.{}.post_attention_layernorm",
        "decoder.blocks.{}.feed_forward.gate": "model.layers.{}.mlp.gate_proj",
        "decoder.blocks.{}.feed_forward.up": "model.layers.{}.mlp.up_proj",
        "decoder.blocks.{}.feed_forward.down": "model.layers.{}.mlp.down_proj",
        "decoder.norm": "model.norm",
        "unembedding": "lm_head",
    },
    ignored=r".*\.rotary_emb\.inv_freq",
)


# ---------------------------------------------------------------------------------------------------------------------
# BERT


def _read_bert(document: Mapping[str, Any]) -> ModelConfig:
    activation = document.get("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        raise UnsupportedModel(f"hidden_act {activation!r} is not supported; supported: {', '.join(ACTIVATIONS)}")
    _require(document, "position_embedding_type", "absolute", default="absolute")
    _require(document, "is_decoder", False, default=False)
    _require(document, "add_cross_attention", False, default=False)
    _require(document, "quantization_config", None)
    return presets.bert(
        vocabulary=document["vocab_size"],
        width=document["hidden_size"],
        layers=document["num_hidden_layers"],
        heads=document["num_attention_heads"],
        hidden=document["intermediate_size"],
        context_length=document.get("max_position_embeddings", 512),
        token_types=document.get("type_vocab_size", 2),
        activation=ACTIVATIONS[activation],  # pyright: ignore[reportArgumentType]
        norm_eps=document.get("layer_norm_eps", 1e-12),
    )


def _write_bert(config: ModelConfig) -> JsonObject:
    if config.encoder is None:
        raise UnsupportedModel("bert is an encoder")
    block = config.encoder.blocks[0]
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": config.embedding.vocabulary,
        "hidden_size": config.embedding.width,
        "num_hidden_layers": len(config.encoder.blocks),
        "num_attention_heads": block.attention.heads,
        "intermediate_size": block.feed_forward.hidden,
        "hidden_act": next(name for name, ours in ACTIVATIONS.items() if ours == block.feed_forward.activation),
        "max_position_embeddings": config.context_length,
        "type_vocab_size": config.embedding.token_types,
        "layer_norm_eps": block.norm.eps,
        "position_embedding_type": "absolute",
    }


BERT = Family(
    model_type="bert",
    architecture="BertModel",
    read=_read_bert,
    write=_write_bert,
    modules={
        "embedding.tokens": "embeddings.word_embeddings",
        "embedding.positions": "embeddings.position_embeddings",
        "embedding.token_types": "embeddings.token_type_embeddings",
        "embedding.norm": "embeddings.LayerNorm",
        "encoder.blocks.{}.attention.query": "encoder.layer.{}.attention.self.query",
        "encoder.blocks.{}.attention.key": "encoder.layer.{}.attention.self.key",
        "encoder.blocks.{}.attention.value": "encoder.layer.{}.attention.self.value",
        "encoder.blocks.{}.attention.output": "encoder.layer.{}.attention.output.dense",
        "encoder.blocks.{}.attention_norm": "encoder.layer.{}.attention.output.LayerNorm",
        "encoder.blocks.{}.feed_forward.up": "encoder.layer.{}.intermediate.dense",
        "encoder.blocks.{}.feed_forward.down": "encoder.layer.{}.output.dense",
        "encoder.blocks.{}.feed_forward_norm": "encoder.layer.{}.output.LayerNorm",
    },
    # The pooler was trained for next-sentence prediction; hidden states and mean pooling never touch it.
    ignored=r"pooler\.dense\.(weight|bias)|embeddings\.position_ids",
)

FAMILIES = (LLAMA, BERT)


def _require(document: Mapping[str, Any], field: str, supported: Any, default: Any = None) -> None:
    value = document.get(field, default)
    if value != supported:
        raise UnsupportedModel(f"{field} = {value!r} is not supported; supported: {supported!r}")
