"""The families that Hugging Face's `transformers` has, each as a value; see `huggingface.py`.

The order decides between families that can express the same config: the first one is written.
"""

from lmworks.model.families.bart import BART
from lmworks.model.families.bert import BERT
from lmworks.model.families.gemma import GEMMA, GEMMA2, GEMMA3
from lmworks.model.families.gpt2 import GPT2
from lmworks.model.families.gpt_neox import GPT_NEOX
from lmworks.model.families.llama import LLAMA
from lmworks.model.families.mistral import MISTRAL
from lmworks.model.families.mixtral import MIXTRAL
from lmworks.model.families.openai_gpt import OPENAI_GPT
from lmworks.model.families.own import OWN
from lmworks.model.families.phi3 import PHI3
from lmworks.model.families.qwen import QWEN2, QWEN3
from lmworks.model.families.roberta import ROBERTA
from lmworks.model.families.switch import SWITCH
from lmworks.model.families.t5 import T5
from lmworks.model.huggingface import Family

FAMILIES: tuple[Family, ...] = (
    *(LLAMA, MISTRAL, QWEN2, QWEN3, GEMMA, GEMMA2, GEMMA3, MIXTRAL, PHI3, GPT2, OPENAI_GPT, GPT_NEOX),
    *(BERT, ROBERTA, T5, SWITCH, BART),
    OWN,
)
