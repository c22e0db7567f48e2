"""Training Unigram (Kudo 2018): words are counted, pieces learnt from them, and a `tokenizer.json` is put together."""

from collections.abc import Iterable

import tokenizers
from tokenizers import AddedToken, Regex, models, pre_tokenizers

from lmworks.progress import Report, no_report
from lmworks.tokenizer.byte_level import add_bos_and_eos
from lmworks.tokenizer.config import UnigramConfig
from lmworks.tokenizer.pre_tokenizer import WordRule
from lmworks.tokenizer.sentence_piece import sentence_piece_decoder
from lmworks.tokenizer.split_special_tokens import split_pattern
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.training.initial_symbols import room_beside, spell_characters
from lmworks.tokenizer.training.metaspace import (
    BYTE_TOKENS,
    UNKNOWN,
    becomes_unknown,
    count_normalised_words,
    normaliser,
)
from lmworks.tokenizer.training.trained import Trained
from lmworks.tokenizer.training.unigram_em import Pieces, learn_pieces

END = "</s>"
_RULE = WordRule("metaspace", "run")
_ROLES = {"<s>": "bos_token", END: "eos_token", UNKNOWN: "unk_token", "<pad>": "pad_token", "<mask>": "mask_token"}


def train_unigram(texts: Iterable[str], config: UnigramConfig | None = None, progress: Report = no_report) -> Trained:
    """Learns a vocabulary from texts, which are read once and need not fit into memory.

    A vocabulary smaller than asked for means that the texts have no more stretches of characters that occur twice. The
    same texts in any order give the same tokenizer. ValueError where there is nothing to learn from.
    """
    config = config or UnigramConfig()
    words = count_normalised_words(texts, _RULE, config, progress)
    before = [*config.special_tokens, *(BYTE_TOKENS if config.byte_fallback else ())]
    spelling = spell_characters(words, config.coverage, becomes=becomes_unknown(config.byte_fallback))
    size, occurrences = len(words), words.total
    room = room_beside(before, spelling, config.vocabulary_size)
    del words
    pieces = learn_pieces(
        spelling,
        room,
        longest=config.max_piece_length,
        seed_size=config.seed_size,
        forbidden=before,
        progress=progress,
    )
    roles = {_ROLES[token]: token for token in config.special_tokens if token in _ROLES}
    tokenizer = Tokenizer(_backend(before, pieces, config), roles)
    return Trained(tokenizer, len(before), size, occurrences, pieces=pieces, uncovered=spelling.uncovered)


def _backend(before: list[str], pieces: Pieces, config: UnigramConfig) -> tokenizers.Tokenizer:
    vocabulary = [*((token, 0.0) for token in before), *zip(pieces.names, pieces.scores.tolist(), strict=True)]
    backend = tokenizers.Tokenizer(models.Unigram(vocabulary, before.index(UNKNOWN), config.byte_fallback))
    if config.normalise != "none":
        backend.normalizer = normaliser(config.normalise)
    names = pre_tokenizers.Split(
        Regex(split_pattern(config.special_tokens, pieces.names, config.byte_fallback)), "isolated"
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence([_RULE.pre_tokenizer(), names])
    backend.decoder = sentence_piece_decoder(byte_fallback=True, strip=True)
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in config.special_tokens])
    add_bos_and_eos(backend, None, END)  # T5's encoder reads texts with their end
    return backend
