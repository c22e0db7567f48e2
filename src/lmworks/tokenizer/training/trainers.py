"""Training a vocabulary: words are counted, tokens learnt from them, and a `tokenizer.json` is put together.

BPE (Sennrich et al. 2016) and WordPiece (Schuster & Nakajima 2012; Devlin et al. 2019) learn by merging, Unigram (Kudo
2018) by taking away. WordPiece is used without the merges: they decide what is in the vocabulary, but BERT's tokenizer
takes the longest piece that begins a word, then the longest that continues from there, written with ## in front.

Each trainer reads the texts once; they need not fit into memory. The same texts in any order give the same tokenizer. A
vocabulary smaller than asked for means that nothing else is frequent enough. ValueError where there is nothing to learn
from.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from lmworks.progress import Report, no_report
from lmworks.tokenizer import library
from lmworks.tokenizer.byte_level import add_bos_and_eos
from lmworks.tokenizer.config import BpeConfig, UnigramConfig, WordPieceConfig
from lmworks.tokenizer.merge_history import HEADINGS
from lmworks.tokenizer.pre_tokenizer import SPACE, WordRule
from lmworks.tokenizer.sentence_piece import sentence_piece_decoder
from lmworks.tokenizer.split_special_tokens import split_pattern
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.training.initial_symbols import (
    CONTINUING,
    Uncovered,
    room_beside,
    spell_bytes,
    spell_characters,
)
from lmworks.tokenizer.training.merges import Merges, learn_merges
from lmworks.tokenizer.training.unigram import Pieces, learn_pieces
from lmworks.tokenizer.training.word_counts import WordCounts, count_words

UNKNOWN, END = "<unk>", "</s>"
BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))
LONGEST_WORD = 100  # characters, beyond which BERT's tokenizer takes a word as unknown
_NORMALISERS = {"NFC": normalizers.NFC, "NFKC": normalizers.NFKC}
_UNIGRAM_RULE = WordRule("metaspace", "run")
_UNIGRAM_ROLES = {
    "<s>": "bos_token", END: "eos_token", UNKNOWN: "unk_token", "<pad>": "pad_token", "<mask>": "mask_token"
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A tokenizer, and what it was learnt from.

    first        the id of the first token that was learnt: of BPE and WordPiece the alphabet's first
    words        different words that were learnt from
    occurrences  of them in the texts
    merges       of BPE and WordPiece: what was merged, in the order in which it was learnt
    pieces       of Unigram: with log-probabilities, in the order of the ids
    uncovered    characters that got no token; its `warning` is for the user
    """

    tokenizer: Tokenizer
    first: int
    words: int
    occurrences: int
    merges: Merges | None = None
    pieces: Pieces | None = None
    uncovered: Uncovered = field(default_factory=Uncovered)

    def trace(self) -> str | None:
        """A line for each merge, with tabs between: the token's id, those of the two that make it, and how often they
        were neighbours when it was learnt. The lines are in the order of learning, below a line of headings. None for
        Unigram."""
        if self.merges is None:
            return None
        made = self.first + len(self.merges.tokens) - len(self.merges)
        rows = zip(self.merges.left + self.first, self.merges.right + self.first, self.merges.counts, strict=True)
        lines = (f"{made + n}\t{left}\t{right}\t{count}" for n, (left, right, count) in enumerate(rows))
        return "\n".join([HEADINGS, *lines, ""])


# ---------------------------------------------------------------------------------------------------------------------
# BPE


def train_bpe(texts: Iterable[str], config: BpeConfig | None = None, progress: Report = no_report) -> Trained:
    """Byte-pair encoding, on bytes or, with the rule "metaspace", on characters."""
    config = config or BpeConfig()
    rule, metaspace = WordRule(config.words, config.digits), config.words == "metaspace"
    words = _count(texts, rule, config, progress)
    reserved = (UNKNOWN, *(BYTE_TOKENS if config.byte_fallback else ())) if metaspace else ()
    before = list(dict.fromkeys([*config.special_tokens, *reserved]))
    becomes = _becomes(config.byte_fallback)
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
    if config.normalise != "none":
        backend.normalizer = _NORMALISERS[config.normalise]()
    backend.pre_tokenizer = rule.pre_tokenizer()
    backend.decoder = sentence_piece_decoder(byte_fallback=True, strip=True) if metaspace else decoders.ByteLevel()
    _add_special(backend, [*config.special_tokens, *(token for token in before if token == UNKNOWN)])
    roles = {"eos_token": config.special_tokens[0], **({"unk_token": UNKNOWN} if metaspace else {})}
    tokenizer = Tokenizer(backend, roles)
    return Trained(tokenizer, len(before), size, occurrences, merges=merges, uncovered=spelling.uncovered)


def _add_special(backend: tokenizers.Tokenizer, names: Iterable[str]) -> None:
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])


# ---------------------------------------------------------------------------------------------------------------------
# WordPiece


def train_wordpiece(
    texts: Iterable[str], config: WordPieceConfig | None = None, progress: Report = no_report
) -> Trained:
    """A vocabulary of the kind that BERT has, with its normalisation, its words and its frame of special tokens."""
    config = config or WordPieceConfig()
    words = _count_bert_words(texts, config, progress)
    becomes = "A word that holds one of them becomes [UNK] as a whole."
    spelling = spell_characters(words, config.coverage, CONTINUING, becomes)
    size, occurrences = len(words), words.total
    room = room_beside(config.special_tokens, spelling, config.vocabulary_size)
    merges = learn_merges(
        spelling,
        room,
        least=config.min_frequency,
        longest=config.max_token_length,
        forbidden=config.special_tokens,
        continuing=CONTINUING,
        progress=progress,
    )
    vocabulary = {token: number for number, token in enumerate([*config.special_tokens, *merges.tokens])}
    model = models.WordPiece(
        vocab=vocabulary, unk_token="[UNK]", max_input_chars_per_word=LONGEST_WORD, continuing_subword_prefix=CONTINUING
    )
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = _bert_normaliser(config)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix=CONTINUING)
    _add_special(backend, config.special_tokens)
    backend.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    tokenizer = Tokenizer(
        backend, {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    )
    first = len(config.special_tokens)
    return Trained(tokenizer, first, size, occurrences, merges=merges, uncovered=spelling.uncovered)


def _count_bert_words(texts: Iterable[str], config: WordPieceConfig, progress: Report) -> WordCounts:
    """BERT's words. None spans a space, so it is enough to normalise each different stretch between spaces once."""
    stretches = count_words(texts, WordRule("metaspace", "run"), progress=progress)
    normaliser, words = _bert_normaliser(config), pre_tokenizers.BertPreTokenizer()
    counts: Counter[bytes] = Counter()
    for done, (stretch, count) in enumerate(stretches, start=1):
        for word, _ in words.pre_tokenize_str(normaliser.normalize_str(stretch.decode())):
            if len(word) <= LONGEST_WORD:
                counts[word.encode()] += count
        if done % 10_000 == 0:
            progress(done, len(stretches), "words normalised")
    return _not_empty(WordCounts.of({word: count for word, count in counts.items() if count >= config.min_word_count}))


def _bert_normaliser(config: WordPieceConfig) -> normalizers.Normalizer:
    return normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=config.lowercase, lowercase=config.lowercase
    )


# ---------------------------------------------------------------------------------------------------------------------
# Unigram


def train_unigram(texts: Iterable[str], config: UnigramConfig | None = None, progress: Report = no_report) -> Trained:
    """A vocabulary of the kind that T5 has. RuntimeError where lmworks was installed without its compiled parts."""
    if library.load() is None:
        raise RuntimeError(
            "Unigram is learnt by compiled code alone: install a C++ compiler (g++ or clang) and then lmworks again, "
            "or train BPE"
        )
    config = config or UnigramConfig()
    words = _count(texts, _UNIGRAM_RULE, config, progress)
    before = [*config.special_tokens, *(BYTE_TOKENS if config.byte_fallback else ())]
    spelling = spell_characters(words, config.coverage, becomes=_becomes(config.byte_fallback))
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
    vocabulary = [*((token, 0.0) for token in before), *zip(pieces.names, pieces.scores.tolist(), strict=True)]
    backend = tokenizers.Tokenizer(models.Unigram(vocabulary, before.index(UNKNOWN), config.byte_fallback))
    if config.normalise != "none":
        backend.normalizer = _NORMALISERS[config.normalise]()
    names = split_pattern(config.special_tokens, pieces.names, config.byte_fallback)
    split = pre_tokenizers.Split(Regex(names), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([_UNIGRAM_RULE.pre_tokenizer(), split])
    backend.decoder = sentence_piece_decoder(byte_fallback=True, strip=True)
    _add_special(backend, config.special_tokens)
    add_bos_and_eos(backend, None, END)  # T5's encoder reads texts with their end
    roles = {_UNIGRAM_ROLES[token]: token for token in config.special_tokens if token in _UNIGRAM_ROLES}
    tokenizer = Tokenizer(backend, roles)
    return Trained(tokenizer, len(before), size, occurrences, pieces=pieces, uncovered=spelling.uncovered)


# ---------------------------------------------------------------------------------------------------------------------
# Words


def _count(texts: Iterable[str], rule: WordRule, config: BpeConfig | UnigramConfig, progress: Report) -> WordCounts:
    """The words of the texts in the form in which the tokenizer will cut them. With a rule of "metaspace" a word begins
    with its space, as SentencePiece has it: spaces are ▁, and one goes before each text."""
    if isinstance(texts, str):
        raise ValueError("texts are several: give a list of strings, or [text] for a single one")
    metaspace = rule.rule == "metaspace"

    def prepared() -> Iterator[str]:
        steps = None if config.normalise == "none" else _NORMALISERS[config.normalise]()
        for text in texts:
            text = text if steps is None else steps.normalize_str(text)
            if metaspace and text:
                text = text.replace(SPACE, " ")
                text = text if text.startswith(" ") else " " + text
            yield text

    words = _not_empty(count_words(prepared(), rule, min_word_count=config.min_word_count, progress=progress))
    return WordCounts.of({word.replace(b" ", SPACE.encode()): n for word, n in words}) if metaspace else words


def _not_empty(words: WordCounts) -> WordCounts:
    if not len(words):
        raise ValueError("there is no text to learn from: every text is empty")
    return words


def _becomes(byte_fallback: bool) -> str:
    """The sentence of `Uncovered` for what a character without a token becomes."""
    return "They become the tokens of their bytes." if byte_fallback else f"They become {UNKNOWN}."
