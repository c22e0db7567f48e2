"""Objectives as a recipe names them, for a tokenizer."""

from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.train import objective_config as configs
from lmworks.train.objectives.bart_denoising import Denoising, SentencePermutation, TextInfilling, sentence_ends
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.objectives.corruption_vocabulary import Vocabulary
from lmworks.train.objectives.masked import MaskedLanguageModel
from lmworks.train.objectives.multi_token_prediction import MultiTokenPrediction
from lmworks.train.objectives.objective import Objective
from lmworks.train.objectives.prefix import PrefixLanguageModel
from lmworks.train.objectives.span_corruption import SpanCorruption, missing, sentinels_of


def build_objective(
    config: configs.ObjectiveConfig, tokenizer: Tokenizer, length: int, neftune: float | None = None
) -> Objective:
    """The objective on sequences of `length` tokens. ValueError for a vocabulary that lacks the tokens it needs."""
    match config:
        case configs.Causal():
            return CausalLanguageModel(neftune=neftune)
        case configs.Prefix():
            return PrefixLanguageModel()
        case configs.MultiToken(depth):
            return MultiTokenPrediction(depth)
        case configs.Masked(rate):
            return MaskedLanguageModel(Vocabulary.of(tokenizer), rate)
    if (end := tokenizer.eos_id) is None:
        raise ValueError("the tokenizer has no eos_token, which ends what is read and written: give it that role")
    if isinstance(config, configs.Denoising):
        noise = SentencePermutation(sentence_ends(tokenizer)), TextInfilling(config.rate)
        return Denoising(noise, Vocabulary.of(tokenizer).mask, None, end)
    sentinels, (_, spans) = sentinels_of(tokenizer), missing(length, config.rate, 3.0)
    if spans > len(sentinels):
        raise ValueError(
            f"a text of {length} tokens has {spans} spans, and the vocabulary {len(sentinels)} sentinels: add those up "
            f"to <extra_id_{spans - 1}> to the special_tokens of the tokenizer, or set a smaller length"
        )
    return SpanCorruption(sentinels, end, end if tokenizer.pad_id is None else tokenizer.pad_id, config.rate)
