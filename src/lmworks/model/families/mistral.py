"""Mistral (`mistral`)."""

from lmworks.model import presets
from lmworks.model.families import common
from lmworks.model.huggingface import Family, bare_model, language_model, last_token_classifier

MISTRAL = Family(
    model_type="mistral",
    prefix="model.",
    preset=presets.mistral,
    settings=(*common.LLAMA_SIZES, common.window(4096), common.rope(), common.norm_eps("rms_norm_eps", 1e-6)),
    fixed={"hidden_act": "silu"},
    architectures=(
        language_model("MistralForCausalLM"),
        bare_model("MistralModel"),
        last_token_classifier("MistralForSequenceClassification"),
    ),
    modules=common.LLAMA_MODULES,
)
