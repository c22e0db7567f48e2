"""GPT-2 (`gpt2`). Its matrices are stored transposed, (in, out), and queries, keys and values are one of them."""

from collections.abc import Sequence

from torch import Tensor

from lmworks.model import presets
from lmworks.model.config import ModelConfig
from lmworks.model.families import common
from lmworks.model.huggingface import (
    ACTIVATIONS,
    Document,
    Family,
    Fused,
    JsonObject,
    Setting,
    bare_model,
    language_model,
    last_token_classifier,
    setting,
)


def _transposed(theirs: str, *ours: str) -> Fused:
    """Equal parts of one matrix; a bias, which has one dimension, stays as it is."""

    def split(tensor: Tensor, config: ModelConfig) -> Sequence[Tensor]:
        return tensor.t().chunk(len(ours))

    def join(parts: Sequence[Tensor], config: ModelConfig) -> Tensor:
        return common.concatenate(parts, config).t()

    return Fused(theirs, ours, split, join)


CONV1D = (
    _transposed("h.{}.attn.c_attn", *common.QUERY_KEY_VALUE),
    _transposed("h.{}.attn.c_proj", "decoder.blocks.{}.attention.output"),
    _transposed("h.{}.mlp.c_fc", "decoder.blocks.{}.feed_forward.up"),
    _transposed("h.{}.mlp.c_proj", "decoder.blocks.{}.feed_forward.down"),
)
SIZES = (
    common.VOCABULARY,
    setting("width", "n_embd", lambda c: c.embedding.width, 768),
    setting("layers", "n_layer", lambda c: len(c.stacks[-1].blocks), 12),
    setting("heads", "n_head", lambda c: common.first_block(c).attention.heads, 12),
    common.norm_eps("layer_norm_epsilon", 1e-5),
)


def _read_hidden(document: Document) -> int:
    return document.get("n_inner") or 4 * document.get("n_embd", 768)


def _write_hidden(config: ModelConfig) -> JsonObject:
    hidden = common.feed_forward(config).hidden
    return {"n_inner": None if hidden == 4 * config.embedding.width else hidden}


GPT2 = Family(
    model_type="gpt2",
    prefix="transformer.",
    preset=presets.gpt2,
    settings=(
        *SIZES,
        Setting("hidden", _read_hidden, _write_hidden),
        setting("context_length", "n_positions", lambda c: c.context_length, 1024),
        setting(
            "activation", "activation_function", lambda c: common.feed_forward(c).activation, "gelu_new", ACTIVATIONS
        ),
    ),
    fixed={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False},
    architectures=(
        language_model("GPT2LMHeadModel", tied=True),
        bare_model("GPT2Model"),
        last_token_classifier("GPT2ForSequenceClassification"),
    ),
    modules={
        "embedding.tokens": "wte",
        "embedding.positions": "wpe",
        "decoder.blocks.{}.attention_norm": "h.{}.ln_1",
        "decoder.blocks.{}.feed_forward_norm": "h.{}.ln_2",
        "decoder.norm": "ln_f",
    },
    fused=CONV1D,
    ignored=r"h\.\d+\.attn\.(bias|masked_bias)",  # the causal mask
)
