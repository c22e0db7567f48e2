"""The families, each as one function that is the documentation of its architecture."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.model.presets.decoders import (
        chinchilla,
        gemma,
        gemma2,
        gemma3,
        glam,
        gopher,
        gpt1,
        gpt2,
        gpt3,
        gpt_neox,
        jurassic1,
        lamda,
        llama,
        mistral,
        mixtral,
        phi3,
        qwen2,
        qwen3,
    )
    from lmworks.model.presets.encoders import bart, bert, roberta, spanbert, switch, t5, t5_v1_1, transformer

__getattr__, __all__ = lazy_exports(__name__, __file__)
