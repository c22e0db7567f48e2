"""Errors of OCR corrected by a noisy channel, where the evidence is overwhelming; everything else stays.

A word that was read is either a word that was printed so, or another word misread (Kernighan, Church and Gale 1990):
per occurrence, a known word w is misread with probability p(w) · p(confusion). That a word is genuine although the
vocabulary lacks it has the probability p(new) · p(letters), with letters from a trigram model of the vocabulary, and
its further occurrences come at its own rate (as in a Chinese restaurant process). So "tlie" is an error for "the",
and "clown" is none for "down": its letters are those of a word.

How much noise a document has is seen in its frequent words: among thousands of "the" there is a "tlie" or there is
none. Of a document that was never scanned, a word that stands once is a word ("certainty"), however near it is to
another ("certainly"): where frequent words are without errors, only a word with letters in a row that no other has is
corrected.

What the document itself shows is corrected by it alone; a vocabulary of other texts corrects more.

Which letters are taken for which, and how often, is the channel. The pairs are those that studies of OCR text list
again and again (Kolak and Resnik 2002; Evershed and Fitch 2014, section 3); the weights are rounded orders of
magnitude, for print of middling quality: of all times that `printed` stands in a book, in which share it is read as
`read`.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from heapq import nlargest
from itertools import chain, pairwise

from lmworks.corpus.modifiers.text_lines import roman_value
from lmworks.records import Edit

# Weight -> pairs "read printed".
_PAIRS = {
    3e-3: "rn m, m rn, 1 l, 1 i, 0 o, vv w, li h, tli th, tbe the, ii n, ii u, ri n, cl d, l1 h, 5 s",
    1e-3: "b h, h b, c e, e c, u n, n u, in m, m in, ni m, d cl, h li, n ri, I l, l I, l i, i l, l t, t l, "
    "iii m, nn m, m nn, lil hl, lii hi, ln in, lh th, iu in, hl bl, 8 B, 6 b, 9 g, 0 O, 1 I, 5 S, fi f, fl f, f s",
    2e-4: "a o, o a, o e, e o, s a, a s, r t, t r, f t, t f, v y, y v, g q, q g, p n, k h, lc k, j i",
}
LIGATURES = {  # and the long s
    "ſ": "s", "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st",
}  # fmt: skip
_LONGEST_READ = 3  # characters that are read for one or more printed ones, and of those

CONFUSIONS: dict[str, list[tuple[str, float]]] = {}  # read -> (printed, natural logarithm of the weight)
READINGS: dict[str, list[tuple[str, float]]] = {}  # printed -> (read, natural logarithm of the weight)
for _weight, _pairs in _PAIRS.items():
    for _read, _printed in map(str.split, _pairs.split(", ")):
        CONFUSIONS.setdefault(_read, []).append((_printed, math.log(_weight)))
        READINGS.setdefault(_printed, []).append((_read, math.log(_weight)))

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_LONGEST = 30  # characters of a word that is looked at
_KNOWN = 3  # times that a word stands in the document itself, to be believed
_RARE = 1e-6  # of the vocabulary: words that are rarer may be errors of the corpus
_COMMON = 20  # times in the document: a word that is more frequent is no error
_FEWEST = 5000  # words of a document without which it does not tell how words are spelled
_MARGIN = 5.0  # natural logarithm of the odds of an error over a genuine word, above which a word is corrected
_NEW = math.log(0.02)  # that a word is one which the vocabulary lacks
_FREQUENT = 100  # words of a document that tell its noise
_IMPROBABLE = math.log(0.01)  # genuine words, in all the document, with the letters of what was misread for sure
_PRIOR = 1.0  # error seen where one is expected, in a document that tells nothing
_CLEAN = math.log(0.1)  # of the errors expected: with fewer, letters between digits were printed
_MODELLED = 50_000  # words from which letters are learned
_SMOOTHING = 20.0  # letters, that the shorter context counts for
_ALPHABET = 60  # letters, for those that were never seen
_DIGITS = re.compile(r"[0-9]*[lIOo]?[0-9]+[lIOo]?[0-9]*")
_AS_DIGITS = str.maketrans("lIOo", "1100")
_ORDINAL = re.compile(r"[0-9]+(?:st|nd|rd|th|s|d|er|e|º|ª)", re.I)
_PRINTED = re.compile("[" + "".join(LIGATURES) + "]")
_LIGATURES = str.maketrans(LIGATURES)


@dataclass(frozen=True, slots=True)
class OcrModel:
    """Counts of words, and of the letters in a row in them.

    counts    Occurrences of each word, casefolded, from which those in `less` are taken; `total`: of all of them.
    known     How often a word must occur to be one.
    runs      In how many of the words one, two or three letters stand in a row; words begin with "^^" and end with "$".
              `letters`: all of them.
    """

    counts: Mapping[str, int]
    total: int
    known: int
    runs: Mapping[str, int]
    letters: int
    less: Mapping[str, int] = field(default_factory=dict)

    def count(self, word: str) -> int:
        return max(0, self.counts.get(word, 0) - self.less.get(word, 0))

    def log_letters(self, word: str) -> float:
        """Natural logarithm of the probability of a word's letters: by trigrams, smoothed by shorter ones as far as
        those are few (MacKay and Peto 1995)."""
        padded = f"^^{word}$"
        log = 0.0
        for at in range(2, len(padded)):
            first, second, third = padded[at - 2 : at + 1]
            share = (self.runs.get(third, 0) + 1) / (self.letters + _ALPHABET)
            for before in (second, first + second):
                share = (self.runs.get(before + third, 0) + _SMOOTHING * share) / (
                    self.runs.get(before, 0) + _SMOOTHING
                )
            log += math.log(share)
        return log

    def is_like_a_word(self, word: str) -> bool:
        """Whether each three letters in a row stand in some word of the vocabulary, or there is an apostrophe."""
        padded = f"^^{word}$"
        return not word.isalnum() or all(padded[at : at + 3] in self.runs for at in range(len(padded) - 2))

    def log_known(self, word: str) -> float | None:
        """Natural logarithm of the share of a word; None for one that is not known."""
        count = self.count(word)
        return math.log(count / self.total) if count >= self.known else None

    def without(self, counts: Counter[str]) -> "OcrModel":
        """The model with so many occurrences less of these words; the letters stay."""
        return replace(self, less=counts, total=max(1, self.total - counts.total()))


def ocr_model(counts: Mapping[str, int], known: int = 2) -> OcrModel:
    """The model of words, casefolded, that stand so often in a corpus; one that stands `known` times is a word."""
    trusted = ((count, word) for word, count in counts.items() if count >= known and word.isalpha())
    padded = [f"^^{word}$" for _, word in nlargest(_MODELLED, trusted)]
    runs = Counter[str]()
    for word in padded:
        runs.update(map("".join, zip(word, word[1:], word[2:], strict=False)))
        runs.update(map("".join, pairwise(word)))
        runs.update(word[1:])
    letters = sum(len(word) - 1 for word in padded)
    return OcrModel(counts, max(1, sum(counts.values())), known, runs, max(1, letters))


def repair_ocr(text: str, others: OcrModel | None = None) -> list[Edit]:
    """Correct words that OCR misread. Rule: `ocr.word`.

    `others`: the words of a corpus, next to the document's own frequent ones, which are enough in one of 5000 words and
    more.
    """
    corrected = ocr_corrections(text, others)
    words = _WORD.finditer(text) if corrected else ()
    return [Edit(*word.span(), corrected[word[0]], "ocr.word") for word in words if word[0] in corrected]


def repair_ligatures(text: str) -> list[Edit]:
    """Write letters such as "ﬁ" and "ſ" as those that they stand for. Rule: `ocr.ligature`."""
    found = () if text.isascii() else _PRINTED.finditer(text)
    return [Edit(*match.span(), LIGATURES[match[0]], "ocr.ligature") for match in found]


def ocr_corrections(text: str, others: OcrModel | None = None) -> dict[str, str]:
    """The words that were misread, and what was printed, as `repair_ocr` corrects them."""
    read = Counter(_WORD.findall(text))
    counts = Counter[str]()
    for word, count in read.items():
        counts[word.casefold()] += count
    own = _corrections(read, ocr_model(counts, _KNOWN), own=True)
    return own if others is None else _corrections(read, others, own=False) | own


def _corrections(read: Counter[str], model: OcrModel, own: bool) -> dict[str, str]:
    """The corrections by the words of the document itself (`own`), or by those of others."""
    total = max(1, read.total())
    is_enough = total >= _FEWEST
    noise = _log_noise(read, total, model)
    # Perhaps it was never scanned, or is too short to tell: then only what is no word by its letters is an error.
    doubted = noise < _CLEAN or not (own or is_enough)
    corrected: dict[str, str] = {}
    for word, count in read.items():
        plain = word if word.isascii() else word.translate(_LIGATURES)
        folded = plain.casefold()
        known = model.count(folded)
        # A number of which one digit or two were taken for letters, such as "l8O5"; a unit ("100l") is none, nor is
        # what would begin with 0 ("o14", "0o17").
        is_mixed = len(plain) >= 3 and not plain.isalpha() and not plain.isdigit() and bool(_DIGITS.fullmatch(plain))
        is_number = is_mixed and plain[-1] not in "lI" and plain[0] not in "0oO" and sum(map(str.isdigit, plain)) >= 2
        printed = plain.translate(_AS_DIGITS) if is_number and noise > _CLEAN else None
        may_be = known <= (_COMMON if own else _RARE * model.total) and (is_enough or not own)
        may_be = may_be and 3 <= len(folded) <= _LONGEST and sum(map(str.isalpha, folded)) >= 2
        may_be = may_be and not _ORDINAL.fullmatch(folded) and roman_value(folded) is None
        if printed is None and may_be and not (doubted and model.is_like_a_word(folded)):
            printed = _correction(plain, max(count, known) if own else count, total, model, noise)
        if printed:
            corrected[word] = printed
    return corrected


def _log_noise(read: Counter[str], total: int, model: OcrModel) -> float:
    """Natural logarithm of the noise of a document, relative to that of the table of confusions; 0 at most.

    It is how often the misreadings of frequent words stand there over how often they should. Those are counted whose
    letters no genuine word has.
    """
    seen = expected = _PRIOR
    limit = _IMPROBABLE - _NEW - math.log(total)
    frequent = nlargest(_FREQUENT, ((n, word) for word, n in read.items() if 3 <= len(word) <= _LONGEST))
    for count, word in frequent:
        for misread, weight in exchanged(word, READINGS):
            if model.log_letters(misread.casefold()) < limit and model.log_known(misread.casefold()) is None:
                seen += read[misread]
                expected += count * math.exp(weight)
    return min(0.0, math.log(seen / expected))


def _correction(word: str, count: int, total: int, model: OcrModel, noise: float) -> str | None:
    """The most probable word that was printed instead, if the odds are above `_MARGIN`."""
    genuine = _NEW + model.log_letters(word.casefold()) + (count - 1) * math.log(count / total)
    best, best_log = None, (genuine + _MARGIN) / count
    once = list(exchanged(word, CONFUSIONS))
    digits = sum(map(str.isdigit, word))
    fewer = [each for each in once if sum(map(str.isdigit, each[0])) < digits]  # of these, by a second confusion too
    twice = ((again, weight + more) for other, weight in fewer for again, more in exchanged(other, CONFUSIONS))
    for printed, log_weight in chain(once, twice):
        weight = log_weight + noise
        if weight > best_log:  # else no word is frequent enough
            known = model.log_known(printed.casefold())
            if known is not None and known + weight > best_log:
                best, best_log = printed, known + weight
    return best


def exchanged(word: str, table: Mapping[str, list[tuple[str, float]]]) -> Iterator[tuple[str, float]]:
    """The words by one confusion, each with its log weight: what may have been printed where `word` was read
    (`CONFUSIONS`), or what may be read where it was printed (`READINGS`)."""
    for start in range(len(word)):
        for end in range(start + 1, min(start + _LONGEST_READ, len(word)) + 1):
            for other, weight in table.get(word[start:end], ()):
                yield word[:start] + other + word[end:], weight
