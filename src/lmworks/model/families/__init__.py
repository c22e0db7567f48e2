"""The families that Hugging Face's `transformers` has, each as a value; see `huggingface.py`.

The order decides between families that can express the same config: the first one is written.
"""

from lmworks.config import from_mapping, to_mapping
from lmworks.model.config import ModelConfig
from lmworks.model.families.bart import BART
from lmworks.model.families.bert import BERT, ROBERTA
from lmworks.model.families.family import Architecture, Family, Setting
from lmworks.model.families.gemma import GEMMA, GEMMA2, GEMMA3
from lmworks.model.families.gpt2 import GPT2, GPT_NEOX, OPENAI_GPT
from lmworks.model.families.llama import LLAMA, MISTRAL, MIXTRAL, PHI3, QWEN2, QWEN3
from lmworks.model.families.t5 import SWITCH, T5


class _Same(dict[str, str]):
    """Every name → the same name."""

    def __missing__(self, name: str) -> str:
        return name


# Our own `model_type`, for what no family of `transformers` expresses: the whole config, our names.
OWN = Family(
    model_type="lmworks",
    prefix="",
    preset=lambda config: from_mapping(ModelConfig, config, ["config"]),
    settings=(Setting("config", lambda document: document["config"], lambda config: {"config": to_mapping(config)}),),
    fixed={},
    architectures=(Architecture("Transformer", lambda document, config: config.head, object),),
    modules=_Same(),
)

FAMILIES: tuple[Family, ...] = (
    *(LLAMA, MISTRAL, QWEN2, QWEN3, GEMMA, GEMMA2, GEMMA3, MIXTRAL, PHI3, GPT2, OPENAI_GPT, GPT_NEOX),
    *(BERT, ROBERTA, T5, SWITCH, BART),
    OWN,
)
