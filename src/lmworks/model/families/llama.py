"""LLaMA 1 to 3 (`llama`)."""

from lmworks.model import presets
from lmworks.model.families import common
from lmworks.model.huggingface import Family, bare_model, language_model, last_token_classifier, setting

LLAMA = Family(
    model_type="llama",
    prefix="model.",
    preset=presets.llama,
    settings=(
        common.VOCABULARY,
        common.WIDTH,
        common.LAYERS,
        common.HEADS,
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
    architectures=(
        language_model("LlamaForCausalLM"),
        bare_model("LlamaModel"),
        last_token_classifier("LlamaForSequenceClassification"),
    ),
    modules=common.LLAMA_MODULES,
    ignored=r".*rotary_emb\.inv_freq",
)
