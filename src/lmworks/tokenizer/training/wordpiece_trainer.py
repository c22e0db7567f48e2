"""Training WordPiece (Schuster & Nakajima 2012; Devlin et al. 2019): learnt by merging, used without the merges.

Merging decides what is in the vocabulary, but not how words are cut with it: BERT's tokenizer takes the longest piece
that begins the word, then the longest that continues from there, written with ## in front.
"""

from collections import Counter
from collections.abc import Iterable

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from lmworks.progress import Report, no_report
from lmworks.tokenizer.config import WordPieceConfig
from lmworks.tokenizer.pre_tokenizer import WordRule
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.training.initial_symbols import CONTINUING, room_beside, spell_characters
from lmworks.tokenizer.training.merges import learn_merges
from lmworks.tokenizer.training.trained import Trained
from lmworks.tokenizer.training.word_counts import WordCounts, count_words

LONGEST_WORD = 100  # characters, beyond which BERT's tokenizer takes a word as unknown


def train_wordpiece(
    texts: Iterable[str], config: WordPieceConfig | None = None, progress: Report = no_report
) -> Trained:
    """Learns a vocabulary of the kind that BERT has, with its normalisation, its words and its frame of special tokens.

    The same texts in any order give the same tokenizer. ValueError where there is nothing to learn from.
    """
    config = config or WordPieceConfig()
    words = _count(texts, config, progress)
    if not len(words):
        raise ValueError("there is no text to learn from: every text is empty")
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
    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    tokenizer = Tokenizer(_backend(vocabulary, config), roles)
    return Trained(
        tokenizer, len(config.special_tokens), size, occurrences, merges=merges, uncovered=spelling.uncovered
    )


def _count(texts: Iterable[str], config: WordPieceConfig, progress: Report) -> WordCounts:
    """BERT's words. None spans a space, so it is enough to normalise each different stretch between spaces once."""
    stretches = count_words(texts, WordRule("metaspace", "run"), memory_bytes=config.memory_mb << 20, progress=progress)
    normaliser, words = _normaliser(config), pre_tokenizers.BertPreTokenizer()
    counts: Counter[bytes] = Counter()
    for done, (stretch, count) in enumerate(stretches, start=1):
        for word, _ in words.pre_tokenize_str(normaliser.normalize_str(stretch.decode())):
            if len(word) <= LONGEST_WORD:
                counts[word.encode()] += count
        if done % 10_000 == 0:
            progress(done, len(stretches), "words normalised")
    return WordCounts.of({word: count for word, count in counts.items() if count >= config.min_word_count})


def _normaliser(config: WordPieceConfig) -> normalizers.Normalizer:
    return normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=config.lowercase, lowercase=config.lowercase
    )


def _backend(vocabulary: dict[str, int], config: WordPieceConfig) -> tokenizers.Tokenizer:
    model = models.WordPiece(
        vocab=vocabulary, unk_token="[UNK]", max_input_chars_per_word=LONGEST_WORD, continuing_subword_prefix=CONTINUING
    )
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = _normaliser(config)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix=CONTINUING)
    backend.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in config.special_tokens])
    backend.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    return backend
