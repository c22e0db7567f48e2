"""Metaspace: texts as words that begin with their space, as SentencePiece has them."""

from collections.abc import Iterable, Iterator

from tokenizers import normalizers

from lmworks.progress import Report
from lmworks.tokenizer.config import BpeConfig, Normal, UnigramConfig
from lmworks.tokenizer.pre_tokenizer import SPACE, WordRule
from lmworks.tokenizer.training.word_counts import WordCounts, count_words

UNKNOWN = "<unk>"
BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))


def count_normalised_words(
    texts: Iterable[str], rule: WordRule, config: BpeConfig | UnigramConfig, progress: Report
) -> WordCounts:
    """The words of the texts in the form in which the tokenizer will cut them; with a rule of "metaspace" their spaces
    are ▁, and one goes before each text. ValueError where there is no word."""
    if isinstance(texts, str):
        raise ValueError("texts are several: give a list of strings, or [text] for a single one")
    metaspace = rule.rule == "metaspace"
    words = count_words(
        _prepared(texts, config.normalise, metaspace),
        rule,
        memory_bytes=config.memory_mb << 20,
        min_word_count=config.min_word_count,
        progress=progress,
    )
    if not len(words):
        raise ValueError("there is no text to learn from: every text is empty")
    return WordCounts.of({word.replace(b" ", SPACE.encode()): n for word, n in words}) if metaspace else words


def _prepared(texts: Iterable[str], normalise: Normal, spaces: bool) -> Iterator[str]:
    steps = None if normalise == "none" else normaliser(normalise)
    for text in texts:
        if steps is not None:
            text = steps.normalize_str(text)
        if spaces and text:
            text = text.replace(SPACE, " ")
            text = text if text.startswith(" ") else " " + text
        yield text


def normaliser(form: Normal) -> normalizers.Normalizer:
    return normalizers.NFC() if form == "NFC" else normalizers.NFKC()


def becomes_unknown(byte_fallback: bool) -> str:
    """The sentence of `Uncovered` for what a character without a token becomes."""
    return "They become the tokens of their bytes." if byte_fallback else f"They become {UNKNOWN}."
