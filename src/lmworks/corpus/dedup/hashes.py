"""Words of texts and their hashes, by which texts are compared.

A word is a run of letters, digits and underscores of the casefolded text. Here it only has to be cut in the same way in
two texts that say the same, whatever their punctuation, at some hundred megabytes a second: so *don't* is two words,
and a vowel sign of Hindi ends one. Measures such as the number of words have a definition of their own
(`taggers.words`). Scripts that are written without blanks between words would make one word of a sentence: each of
their characters is a word of its own.

Texts are compared as sets of n-grams of such words, their shingles (Broder 1997, "On the resemblance and containment of
documents"), each hashed to 64 bits, the same in every process (`reference` defines them). Among a billion shingles, two
that differ and are taken for equal are expected once in 37 such collections.
"""

import hashlib
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Thai and Lao, Burmese, Khmer, Japanese syllables, Chinese characters.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff"
)
WORD = re.compile(rf"(?=\w)[{UNSPACED}]|[^\W{UNSPACED}]+")
WORDS = 5  # of a shingle
PERMUTATIONS = 128  # places of a signature
SEPARATOR = 10  # the byte between words, a newline, which no word holds

_NO_WORD = re.compile(r"[^\w\x00-\x7f]")  # without a quantifier: the search then skips ASCII a character at a time
_UNSPACED = re.compile(f"[{UNSPACED}]")
_SEPARATED = bytes(byte if byte >= 128 or chr(byte).isalnum() or byte == ord("_") else SEPARATOR for byte in range(256))
_SPACES = re.compile(r"\s+")

_FILLED = 16  # bits of a look-up for each key, so that one hash in 16 that is no key is searched for all the same
_LEAST, _MOST = 10, 27  # logarithms of the number of its bits, each of which takes a byte


def words(text: str) -> list[str]:
    """The words of a text, by definition."""
    return WORD.findall(text.casefold())


def word_bytes(text: str) -> bytes:
    """The same words in UTF-8 with one or several newlines between them; no Python runs for a single word or byte."""
    folded = text.casefold()
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


def text_digest(text: str) -> bytes:
    """The SHA-256 of a text, whatever the lengths and kinds of its spaces, and those at its ends."""
    return hashlib.sha256(_SPACES.sub(" ", text).strip().encode("utf-8", "surrogatepass")).digest()


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection of 64-bit numbers in which each bit depends on all (the finaliser of SplitMix64, Steele et al. 2014).

    Sums and products wrap around.
    """
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@dataclass(frozen=True, slots=True, eq=False)
class HashRows:
    """Rows of hashes, of unequal lengths, in one array: the words of texts, or their shingles.

    values  (n,) uint64, one row after the other
    ends    (rows,) int64, one past the last value of each row
    """

    values: NDArray[np.uint64]
    ends: NDArray[np.int64]

    def __post_init__(self) -> None:  # the compiled part reads them as they lie in memory
        object.__setattr__(self, "values", np.ascontiguousarray(self.values, np.uint64))
        object.__setattr__(self, "ends", np.ascontiguousarray(self.ends, np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, row: int) -> NDArray[np.uint64]:
        end = self.ends[row]  # IndexError for a row that there is not
        return self.values[self.ends[row - 1] if row else 0 : end]

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.ends, prepend=0)

    @property
    def starts(self) -> NDArray[np.int64]:
        return self.ends - self.lengths


def positions(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """All positions of ranges, given by their starts and lengths, one range after the other."""
    first = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - first, lengths)


class HashLookup:
    """Finds hashes of 64 well mixed bits among `keys`, (n,) uint64, sorted: a table of bits answers for most, a binary
    search for the rest."""

    def __init__(self, keys: NDArray[np.uint64]) -> None:
        self._keys = keys
        bits = min(max((len(keys) * _FILLED).bit_length(), _LEAST), _MOST)
        self._shift = np.uint64(64 - bits)
        self._possible = np.zeros(2**bits, bool)
        self._possible[(keys >> self._shift).astype(np.int64)] = True

    def find(self, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(places, slots): `hashes[places]` are those among the keys, and `keys[slots]` the first keys they equal."""
        places = np.flatnonzero(self._possible[(hashes >> self._shift).astype(np.int64)])
        slots = np.searchsorted(self._keys, hashes[places])
        found = np.flatnonzero(slots < len(self._keys))
        places, slots = places[found], slots[found]
        equal = self._keys[slots] == hashes[places]
        return places[equal], slots[equal]
