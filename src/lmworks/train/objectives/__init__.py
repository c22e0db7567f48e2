"""Objectives: what a model is asked, and how its answers are scored."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.train.objectives.bart_denoising import Denoising
    from lmworks.train.objectives.causal import CausalLanguageModel
    from lmworks.train.objectives.contrastive import Contrastive
    from lmworks.train.objectives.corruption_vocabulary import Vocabulary
    from lmworks.train.objectives.masked import MaskedLanguageModel
    from lmworks.train.objectives.multi_token_prediction import MultiTokenPrediction
    from lmworks.train.objectives.next_sentence import NextSentence
    from lmworks.train.objectives.objective import Objective
    from lmworks.train.objectives.prefix import PrefixLanguageModel
    from lmworks.train.objectives.span_boundary import SpanBoundary
    from lmworks.train.objectives.span_corruption import SpanCorruption

__getattr__, __all__ = lazy_exports(__name__, __file__)
