"""Objectives: what a model is asked, and how its answers are scored."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmworks.train.objectives.causal import CausalLanguageModel as CausalLanguageModel
    from lmworks.train.objectives.contrastive import Contrastive as Contrastive
    from lmworks.train.objectives.denoising import Denoising as Denoising
    from lmworks.train.objectives.masked import MaskedLanguageModel as MaskedLanguageModel
    from lmworks.train.objectives.multi_token import MultiTokenPrediction as MultiTokenPrediction
    from lmworks.train.objectives.next_sentence import NextSentence as NextSentence
    from lmworks.train.objectives.objective import Objective as Objective
    from lmworks.train.objectives.prefix import PrefixLanguageModel as PrefixLanguageModel
    from lmworks.train.objectives.span_boundary import SpanBoundary as SpanBoundary
    from lmworks.train.objectives.span_corruption import SpanCorruption as SpanCorruption
    from lmworks.train.objectives.vocabulary import Vocabulary as Vocabulary

_PUBLIC = {
    "CausalLanguageModel": "causal",
    "Contrastive": "contrastive",
    "Denoising": "denoising",
    "MaskedLanguageModel": "masked",
    "MultiTokenPrediction": "multi_token",
    "NextSentence": "next_sentence",
    "Objective": "objective",
    "PrefixLanguageModel": "prefix",
    "SpanBoundary": "span_boundary",
    "SpanCorruption": "span_corruption",
    "Vocabulary": "vocabulary",
}

__all__ = [
    "CausalLanguageModel",
    "Contrastive",
    "Denoising",
    "MaskedLanguageModel",
    "MultiTokenPrediction",
    "NextSentence",
    "Objective",
    "PrefixLanguageModel",
    "SpanBoundary",
    "SpanCorruption",
    "Vocabulary",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
