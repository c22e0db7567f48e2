"""The families, each as one function that is the documentation of its architecture."""

from lmworks.model.presets.bert_like import bert, roberta, spanbert
from lmworks.model.presets.encoder_decoders import bart, switch, t5, t5_v1_1, transformer
from lmworks.model.presets.gpt import gpt1, gpt2, gpt_neox
from lmworks.model.presets.large import chinchilla, glam, gopher, gpt3, jurassic1, lamda
from lmworks.model.presets.llama_like import gemma, gemma2, gemma3, llama, mistral, mixtral, phi3, qwen2, qwen3

__all__ = [
    "bart",
    "bert",
    "chinchilla",
    "gemma",
    "gemma2",
    "gemma3",
    "glam",
    "gopher",
    "gpt1",
    "gpt2",
    "gpt3",
    "gpt_neox",
    "jurassic1",
    "lamda",
    "llama",
    "mistral",
    "mixtral",
    "phi3",
    "qwen2",
    "qwen3",
    "roberta",
    "spanbert",
    "switch",
    "t5",
    "t5_v1_1",
    "transformer",
]
