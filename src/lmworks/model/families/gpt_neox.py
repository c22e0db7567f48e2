"""GPT-NeoX and Pythia (`gpt_neox`). Queries, keys and values are one matrix, head by head."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lmworks.model import presets
from lmworks.model.config import ModelConfig, Rope
from lmworks.model.families import common
from lmworks.model.huggingface import (
    ACTIVATIONS,
    Document,
    Family,
    Fused,
    Setting,
    bare_model,
    language_model,
    last_token_classifier,
    setting,
)


def _split(tensor: Tensor, config: ModelConfig) -> Sequence[Tensor]:
    """(heads * 3 * head_dim, …) → three times (heads * head_dim, …)."""
    attention = common.first_block(config).attention
    parts = tensor.unflatten(0, (attention.heads, 3, attention.head_dim)).unbind(1)
    return [part.flatten(0, 1) for part in parts]


def _join(parts: Sequence[Tensor], config: ModelConfig) -> Tensor:
    heads = common.first_block(config).attention.heads
    return torch.stack([part.unflatten(0, (heads, -1)) for part in parts], dim=1).flatten(0, 2)


def _read_rope(document: Document) -> Rope:
    older = {"rope_theta": document.get("rotary_emb_base"), "partial_rotary_factor": document.get("rotary_pct")}
    return common.read_rope({**older, **document}, 10_000.0, fraction=0.25)


GPT_NEOX = Family(
    model_type="gpt_neox",
    prefix="gpt_neox.",
    preset=presets.gpt_neox,
    settings=(
        common.VOCABULARY,
        common.WIDTH,
        common.LAYERS,
        common.HEADS,
        common.HIDDEN,
        common.context_length(2048),
        Setting("rope", _read_rope, lambda c: common.write_rope(common.first_block(c).attention.rope, fraction=0.25)),
        setting("activation", "hidden_act", lambda c: common.feed_forward(c).activation, "gelu", ACTIVATIONS),
        common.norm_eps("layer_norm_eps", 1e-5),
        setting("attention_bias", "attention_bias", lambda c: common.first_block(c).attention.bias, True),
        setting("parallel", "use_parallel_residual", lambda c: common.first_block(c).norm_at == "parallel", True),
    ),
    fixed={},
    architectures=(
        language_model("GPTNeoXForCausalLM", {"head.projection": "embed_out"}),
        bare_model("GPTNeoXModel"),
        last_token_classifier("GPTNeoXForSequenceClassification"),
    ),
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
