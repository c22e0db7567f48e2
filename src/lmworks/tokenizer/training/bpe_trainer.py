"""Training byte-pair encoding: words are counted, merges learnt from them, and a `tokenizer.json` is put together."""

from collections.abc import Iterable

import tokenizers
from tokenizers import AddedToken, decoders, models

from lmworks.progress import Report, no_report
from lmworks.tokenizer.config import BpeConfig
from lmworks.tokenizer.pre_tokenizer import WordRule
from lmworks.tokenizer.sentence_piece import sentence_piece_decoder
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.training.initial_symbols import room_beside, spell_bytes, spell_characters
from lmworks.tokenizer.training.merges import learn_merges
from lmworks.tokenizer.training.metaspace import (
    BYTE_TOKENS,
    UNKNOWN,
    becomes_unknown,
    count_normalised_words,
    normaliser,
)
from lmworks.tokenizer.training.trained import Trained


def train_bpe(texts: Iterable[str], config: BpeConfig | None = None, progress: Report = no_report) -> Trained:
    """Learns a vocabulary from texts, which are read once and need not fit into memory.

    A vocabulary smaller than asked for means that no further pair occurs `min_frequency` times. The same texts in any
    order give the same tokenizer. ValueError where there is nothing to learn from.
    """
    config = config or BpeConfig()
    rule, metaspace = WordRule(config.words, config.digits), config.words == "metaspace"
    words = count_normalised_words(texts, rule, config, progress)
    before = [*config.special_tokens, *_reserved(config)]
    becomes = becomes_unknown(config.byte_fallback)
    spelling = spell_characters(words, config.coverage, becomes=becomes) if metaspace else spell_bytes(words)
    size, occurrences = len(words), words.total
    room = room_beside(before, spelling, config.vocabulary_size)
    del words
    merges = learn_merges(
        spelling, room, least=config.min_frequency, longest=config.max_token_length, forbidden=before, progress=progress
    )
    vocabulary = {token: number for number, token in enumerate([*before, *merges.tokens])}
    options = {"unk_token": UNKNOWN, "fuse_unk": True, "byte_fallback": config.byte_fallback} if metaspace else {}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges.pairs(), **options))
    backend.pre_tokenizer = rule.pre_tokenizer()
    backend.decoder = sentence_piece_decoder(byte_fallback=True, strip=True) if metaspace else decoders.ByteLevel()
    if config.normalise != "none":
        backend.normalizer = normaliser(config.normalise)
    special = [*config.special_tokens, *(token for token in before if token == UNKNOWN)]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    roles = {"eos_token": config.special_tokens[0], **({"unk_token": UNKNOWN} if metaspace else {})}
    return Trained(
        Tokenizer(backend, roles), len(before), size, occurrences, merges=merges, uncovered=spelling.uncovered
    )


def _reserved(config: BpeConfig) -> tuple[str, ...]:
    if config.words != "metaspace":
        return ()
    reserved = (UNKNOWN, *(BYTE_TOKENS if config.byte_fallback else ()))
    return tuple(token for token in reserved if token not in config.special_tokens)
