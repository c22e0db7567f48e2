"""The GPT series: GPT (`openai-gpt`), GPT-2 (`gpt2`), GPT-NeoX and Pythia (`gpt_neox`)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lmworks.model import presets
from lmworks.model.config import ModelConfig, Rope
from lmworks.model.families import common
from lmworks.model.families.family import Document, Family, Fused, JsonObject, Setting, decoder_classes, setting

# ---------------------------------------------------------------------------------------------------------------------
# GPT-2, whose matrices are stored transposed, (in, out), and whose queries, keys and values are one of them


def _transposed(their_name: str, *our_names: str) -> Fused:
    """Equal parts of one matrix; a bias, which has one dimension, stays as it is."""

    def split(tensor: Tensor, config: ModelConfig) -> Sequence[Tensor]:
        return tensor.t().chunk(len(our_names))

    def join(matrices: Sequence[Tensor], config: ModelConfig) -> Tensor:
        return common.concatenate(matrices, config).t()

    return Fused(their_name, our_names, split, join)


_CONV1D = (
    _transposed("h.{}.attn.c_attn", *common.QUERY_KEY_VALUE),
    _transposed("h.{}.attn.c_proj", "decoder.blocks.{}.attention.output"),
    _transposed("h.{}.mlp.c_fc", "decoder.blocks.{}.feed_forward.up"),
    _transposed("h.{}.mlp.c_proj", "decoder.blocks.{}.feed_forward.down"),
)
_SIZES = (
    common.VOCABULARY,
    setting("width", "n_embd", lambda c: c.embedding.width, 768),
    setting("layers", "n_layer", lambda c: len(c.stacks[-1].blocks), 12),
    setting("heads", "n_head", lambda c: common.first_block(c).attention.heads, 12),
    common.norm_eps("layer_norm_epsilon", 1e-5),
)


def _write_hidden(config: ModelConfig) -> JsonObject:
    hidden = common.feed_forward(config).hidden
    return {"n_inner": None if hidden == 4 * config.embedding.width else hidden}


GPT2 = Family(
    model_type="gpt2",
    prefix="transformer.",
    preset=presets.gpt2,
    settings=(
        *_SIZES,
        Setting("hidden", lambda d: d.get("n_inner") or 4 * d.get("n_embd", 768), _write_hidden),
        setting("context_length", "n_positions", lambda c: c.context_length, 1024),
        common.activation("activation_function", "gelu_new"),
    ),
    fixed={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False},
    architectures=decoder_classes("GPT2", "LMHeadModel", tied=True),
    modules={
        "embedding.tokens": "wte",
        "embedding.positions": "wpe",
        "decoder.blocks.{}.attention_norm": "h.{}.ln_1",
        "decoder.blocks.{}.feed_forward_norm": "h.{}.ln_2",
        "decoder.norm": "ln_f",
    },
    fused=_CONV1D,
    ignored=r"h\.\d+\.attn\.(bias|masked_bias)",  # the causal mask
)


# What `transformers` calls "gelu" here is the tanh form.
_GPT1_ACTIVATIONS = {"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"}

OPENAI_GPT = Family(
    model_type="openai-gpt",
    prefix="transformer.",
    preset=presets.gpt1,
    settings=(
        *_SIZES,
        setting("context_length", "n_positions", lambda c: c.context_length, 512),
        setting("activation", "afn", lambda c: common.feed_forward(c).activation, "gelu", _GPT1_ACTIVATIONS),
    ),
    fixed={},
    architectures=decoder_classes("OpenAIGPT", "LMHeadModel", tied=True),
    modules={
        "embedding.tokens": "tokens_embed",
        "embedding.positions": "positions_embed",
        "decoder.blocks.{}.attention_norm": "h.{}.ln_1",
        "decoder.blocks.{}.feed_forward_norm": "h.{}.ln_2",
    },
    fused=_CONV1D,
    ignored=r"h\.\d+\.attn\.bias|position_ids",
)


# ---------------------------------------------------------------------------------------------------------------------
# GPT-NeoX, whose queries, keys and values are one matrix, head by head


def _split(tensor: Tensor, config: ModelConfig) -> Sequence[Tensor]:
    """(heads * 3 * head_dim, …) → three times (heads * head_dim, …)."""
    attention = common.first_block(config).attention
    projections = tensor.unflatten(0, (attention.heads, 3, attention.head_dim)).unbind(1)
    return [projection.flatten(0, 1) for projection in projections]


def _join(projections: Sequence[Tensor], config: ModelConfig) -> Tensor:
    heads = common.first_block(config).attention.heads
    return torch.stack([projection.unflatten(0, (heads, -1)) for projection in projections], dim=1).flatten(0, 2)


def _read_rope(document: Document) -> Rope:
    older = {"rope_theta": document.get("rotary_emb_base"), "partial_rotary_factor": document.get("rotary_pct")}
    return common.read_rope({**older, **document}, 10_000.0, fraction=0.25)


GPT_NEOX = Family(
    model_type="gpt_neox",
    prefix="gpt_neox.",
    preset=presets.gpt_neox,
    settings=(
        *common.SIZES,
        common.context_length(2048),
        Setting("rope", _read_rope, lambda c: common.write_rope(common.first_block(c).attention.rope, fraction=0.25)),
        common.activation("hidden_act", "gelu"),
        common.norm_eps("layer_norm_eps", 1e-5),
        setting("attention_bias", "attention_bias", lambda c: common.first_block(c).attention.bias, True),
        setting("parallel", "use_parallel_residual", lambda c: common.first_block(c).norm_at == "parallel", True),
    ),
    fixed={},
    architectures=decoder_classes("GPTNeoX", modules={"head.projection": "embed_out"}),
    modules={
        "embedding.tokens": "embed_in",
        "decoder.blocks.{}.attention_norm": "layers.{}.input_layernorm",
        "decoder.blocks.{}.attention.output": "layers.{}.attention.dense",
        "decoder.blocks.{}.feed_forward_norm": "layers.{}.post_attention_layernorm",
        "decoder.blocks.{}.feed_forward.up": "layers.{}.mlp.dense_h_to_4h",
        "decoder.blocks.{}.feed_forward.down": "layers.{}.mlp.dense_4h_to_h",
        "decoder.norm": "final_layer_norm",
    },
    fused=(Fused("layers.{}.attention.query_key_value", common.QUERY_KEY_VALUE, _split, _join),),
    ignored=r"layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)",
)
