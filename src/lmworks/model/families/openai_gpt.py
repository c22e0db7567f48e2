"""GPT (`openai-gpt`), the first one."""

from lmworks.model import presets
from lmworks.model.families import common
from lmworks.model.families.gpt2 import CONV1D, SIZES
from lmworks.model.huggingface import Family, bare_model, language_model, last_token_classifier, setting

# What `transformers` calls "gelu" here is the tanh form.
_ACTIVATIONS = {"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"}

OPENAI_GPT = Family(
    model_type="openai-gpt",
    prefix="transformer.",
    preset=presets.gpt1,
    settings=(
        *SIZES,
        setting("context_length", "n_positions", lambda c: c.context_length, 512),
        setting("activation", "afn", lambda c: common.feed_forward(c).activation, "gelu", _ACTIVATIONS),
    ),
    fixed={},
    architectures=(
        language_model("OpenAIGPTLMHeadModel", tied=True),
        bare_model("OpenAIGPTModel"),
        last_token_classifier("OpenAIGPTForSequenceClassification"),
    ),
    modules={
        "embedding.tokens": "tokens_embed",
        "embedding.positions": "positions_embed",
        "decoder.blocks.{}.attention_norm": "h.{}.ln_1",
        "decoder.blocks.{}.feed_forward_norm": "h.{}.ln_2",
    },
    fused=CONV1D,
    ignored=r"h\.\d+\.attn\.bias|position_ids",
)
