"""What a word is, wherever texts are compared: a run of letters, digits and underscores of the casefolded text.

Here a word only has to be cut in the same way in two texts that say the same, whatever their punctuation, and a corpus
is cut at some hundred megabytes a second: so *don't* is two words, and a vowel sign of Hindi ends one. Measures such as
the number of words are of what a reader calls a word, and have a definition of their own (`annotate.words`).

Scripts that are written without blanks between words would make one word of a sentence, so that two texts which differ
in a comma's place would share none: each of their characters is a word of its own.
"""

import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

# Thai and Lao, Burmese, Khmer, Japanese syllables, Chinese characters.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff"
)
WORD = re.compile(rf"(?=\w)[{UNSPACED}]|[^\W{UNSPACED}]+")
SEPARATOR = 10  # the byte between words, a newline, which no word holds

_NO_WORD = re.compile(r"[^\w\x00-\x7f]")  # without a quantifier: the search then skips ASCII a character at a time
_UNSPACED = re.compile(f"[{UNSPACED}]")
_SEPARATED = bytes(byte if byte >= 128 or chr(byte).isalnum() or byte == ord("_") else SEPARATOR for byte in range(256))


def normalise(text: str, compatibility: bool = False) -> str:
    """The text casefolded, after Unicode's compatibility composition (NFKC) where that is asked for."""
    return (unicodedata.normalize("NFKC", text) if compatibility else text).casefold()


def words(text: str, compatibility: bool = False) -> list[str]:
    """The words of a text, by definition."""
    return WORD.findall(normalise(text, compatibility))


def word_bytes(text: str, compatibility: bool = False) -> bytes:
    """The same words in UTF-8 with one or several newlines between them; no Python runs for a single word or byte."""
    folded = normalise(text, compatibility)
    if not folded.isascii():
        folded = _NO_WORD.sub("\n", folded)
        if _UNSPACED.search(folded):
            folded = _UNSPACED.sub("\n\\g<0>\n", folded)
    return folded.encode().translate(_SEPARATED)


def word_spans(text: str) -> NDArray[np.int64]:
    """(words, 2) int64: where each word stands in the text as it is, as half-open ranges of code points."""
    folded = text.casefold()
    spans = np.array([match.span() for match in WORD.finditer(folded)], np.int64).reshape(-1, 2)
    if len(folded) == len(text):  # casefolding never shortens, so every character became one
        return spans
    ends = np.cumsum([len(character.casefold()) for character in text])
    spans[:, 0] = np.searchsorted(ends, spans[:, 0], side="right")
    spans[:, 1] = np.searchsorted(ends, spans[:, 1] - 1, side="right") + 1
    return spans
