"""Mixtral (`mixtral`). Files keep every expert's matrices by themselves; `transformers` joins them when it loads."""

from lmworks.model import presets
from lmworks.model.config import MixtureOfExperts, ModelConfig
from lmworks.model.families import common
from lmworks.model.huggingface import (
    Family,
    UnsupportedModel,
    bare_model,
    language_model,
    last_token_classifier,
    setting,
)


def _mixture(config: ModelConfig) -> MixtureOfExperts:
    part = common.first_block(config).feed_forward
    if not isinstance(part, MixtureOfExperts):
        raise UnsupportedModel("every layer of Mixtral has experts")
    return part


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
    architectures=(
        language_model("MixtralForCausalLM"),
        bare_model("MixtralModel"),
        last_token_classifier("MixtralForSequenceClassification"),
    ),
    modules={
        **common.LLAMA_MODULES,
        "decoder.blocks.{}.feed_forward.router": "layers.{}.block_sparse_moe.gate",
        "decoder.blocks.{}.feed_forward.experts.{}.gate": "layers.{}.block_sparse_moe.experts.{}.w1",
        "decoder.blocks.{}.feed_forward.experts.{}.down": "layers.{}.block_sparse_moe.experts.{}.w2",
        "decoder.blocks.{}.feed_forward.experts.{}.up": "layers.{}.block_sparse_moe.experts.{}.w3",
    },
)
