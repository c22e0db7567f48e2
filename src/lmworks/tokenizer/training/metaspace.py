"""Metaspace: texts as words that begin with their space, as SentencePiece has them."""

from collections.abc import Iterable, Iterator

from tokenizers import normalizers

from lmworks.tokenizer.config import Normal
from lmworks.tokenizer.pre_tokenizer import SPACE
from lmworks.tokenizer.training.word_counts import WordCounts

UNKNOWN = "<unk>"
BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))


def prepare(texts: Iterable[str], normalise: Normal, spaces: bool) -> Iterator[str]:
    """The texts in the form in which the tokenizer will cut them into words; with `spaces`, one goes before each."""
    if isinstance(texts, str):
        raise ValueError("texts are several: give a list of strings, or [text] for a single one")
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


def mark_spaces(words: WordCounts) -> WordCounts:
    """Words with ▁ for every space."""
    return WordCounts.of({word.replace(b" ", SPACE.encode()): count for word, count in words})
