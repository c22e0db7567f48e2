"""Training byte-pair encoding: words are counted, merges learnt from them, and a `tokenizer.json` is put together."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import tokenizers
from tokenizers import AddedToken, decoders, models

from lmworks.progress import Report, no_report
from lmworks.tokenizer.config import BpeConfig
from lmworks.tokenizer.merge_history import HEADINGS
from lmworks.tokenizer.pre_tokenizer import WordRule
from lmworks.tokenizer.sentence_piece import sentence_piece_decoder
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.training.initial_symbols import Uncovered, room_beside, spell_bytes, spell_characters
from lmworks.tokenizer.training.merges import Merges, learn_merges
from lmworks.tokenizer.training.metaspace import (
    BYTE_TOKENS,
    UNKNOWN,
    becomes_unknown,
    count_normalised_words,
    normaliser,
)


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A tokenizer, and what it was learnt from.

    merges       what was merged, in the order in which it was learnt
    first        the id of the first token of `merges`, which is the alphabet's first
    words        different words that were learnt from
    occurrences  of them in the texts
    uncovered    characters that got no token; its `warning` is for the user
    """

    tokenizer: Tokenizer
    merges: Merges
    first: int
    words: int
    occurrences: int
    uncovered: Uncovered = field(default_factory=Uncovered)

    def trace(self) -> str:
        """A line for each merge, with tabs between: the token's id, those of the two that make it, and how often they
        were neighbours when it was learnt. The lines are in the order of learning, below a line of headings."""
        made = self.first + len(self.merges.tokens) - len(self.merges)
        rows = zip(self.merges.left + self.first, self.merges.right + self.first, self.merges.counts, strict=True)
        lines = (f"{made + n}\t{left}\t{right}\t{count}" for n, (left, right, count) in enumerate(rows))
        return "\n".join([HEADINGS, *lines, ""])


def train_bpe(texts: Iterable[str], config: BpeConfig | None = None, progress: Report = no_report) -> Trained:
    """Learns a vocabulary from texts, which are read once and need not fit into memory.

    A vocabulary smaller than asked for means that no further pair occurs `min_frequency` times. The same texts in any
    order give the same tokenizer. ValueError where there is nothing to learn from.
    """
    config = config or BpeConfig()
    rule, metaspace = WordRule(config.words, config.digits), config.words == "metaspace"
    words = count_normalised_words(texts, rule, config, progress)
    before = [*config.special_tokens, *_reserved(config)]
    spelling = spell_characters(words, config.coverage) if metaspace else spell_bytes(words)
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
    left_out = replace(spelling.uncovered, becomes=becomes_unknown(config.byte_fallback))
    return Trained(Tokenizer(backend, roles), merges, len(before), size, occurrences, left_out)


def _reserved(config: BpeConfig) -> tuple[str, ...]:
    if config.words != "metaspace":
        return ()
    reserved = (UNKNOWN, *(BYTE_TOKENS if config.byte_fallback else ()))
    return tuple(token for token in reserved if token not in config.special_tokens)
