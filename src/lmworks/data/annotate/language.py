"""In which language a text is, and which of its paragraphs are in another one.

Identification is a function from a text to a language and its probability; `py3langid` (Lui and Baldwin 2011 and 2012;
BSD, its model comes in the wheel) is one, and any other can take its place. Languages are ISO 639-1 codes where there
are such, else ISO 639-3; `zxx` is no language (numbers, markup, identifiers), `und` one that cannot be told.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

from lmworks.data.annotation import Annotations, Mark, Text

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

UNDETERMINED = "und"
_PRIOR = 0.2  # of a language without a code in ISO 639-1, relative to one that has it
_PARTS = 4  # of a sample
_LETTERS = re.compile(r"[^\W\d_]+")
_BLANK_LINES = re.compile(r"\n\s*\n")
_NEWLINE = re.compile(r"\n")


class Identify(Protocol):
    """The most probable language of a text, and its probability from 0 to 1. Must be picklable."""

    def __call__(self, text: str, /) -> tuple[str, float]: ...


def py3langid(text: str, /) -> tuple[str, float]:
    """140 languages, rather a large one than a small one. The probability is calibrated for the length of the text: a
    short one is less sure.

    The first call costs some tenths of a second: the model is read.
    """
    identifier = _py3langid()
    language, probability = identifier.classify(text)
    if _prior(language) < 1:
        language, probability = max(identifier.rank(text), key=lambda each: each[1] * _prior(each[0]))
    return language, min(1.0, float(probability))  # float32 may exceed 1 by a rounding


def _prior(language: str) -> float:
    """Short texts in a language that many write are taken for its small relatives (English for Nigerian Pidgin): those
    are rare, and need more evidence."""
    return _PRIOR if len(language) > 2 and language != "zxx" else 1.0


@cache
def _py3langid() -> "LanguageIdentifier":
    from lmworks.data.annotate.language_walk import load_identifier

    return load_identifier()


@dataclass(frozen=True, slots=True)
class Language:
    """The annotator.

    identify         How a language is told.
    sample           Characters that the language of a text is told from: all of a shorter text, else four parts of
                     equal length from its beginning to its end, so that neither an English licence above a German book
                     nor its index decides. 2,000 are enough for any method of n-grams, and a book costs what a page
                     does.
    fewest_letters   Bytes of letters in UTF-8 without which a text is `und`; so many of Latin script, a third of Han,
                     which say as much.
    paragraph_sample, fewest_paragraph_letters   The same of paragraphs; the beginning of each is the sample.
    """

    identify: Identify = py3langid
    sample: int = 2_000
    fewest_letters: int = 20
    paragraph_sample: int = 250
    fewest_paragraph_letters: int = 60

    def __call__(self, text: Text) -> Annotations:
        """A label `language`, which is `und` for too few letters, with no measures then, and otherwise:

        language_probability  Of that language, given the sample.
        language_share        Of the characters in paragraphs that were told, those in it; absent where there are no two
                              paragraphs that have letters enough.

        A mark `language.CODE` on every paragraph that is told to be in another language, its score the probability of
        that. Paragraphs are between blank lines, or between newlines where there is no blank line.
        """
        sample = _sample(text.text, self.sample)
        if not _has_letters(sample, self.fewest_letters):
            return Annotations(labels={"language": UNDETERMINED})
        language, probability = self.identify(sample)
        told = list(self._paragraphs(text.text))
        measures = {"language_probability": probability}
        if len(told) > 1:
            all_characters = sum(mark.end - mark.start for mark in told)
            own = sum(mark.end - mark.start for mark in told if mark.rule == f"language.{language}")
            measures["language_share"] = own / all_characters
        marks = tuple(mark for mark in told if mark.rule != f"language.{language}")
        return Annotations(measures, marks, {"language": language})

    def _paragraphs(self, text: str) -> Iterator[Mark]:
        """Of every paragraph with letters enough its language, as a mark. The only one of a text is not asked for: it
        is the text."""
        spans = list(_paragraph_spans(text))
        for start, end in spans if len(spans) > 1 else ():
            sample = text[start : min(end, start + self.paragraph_sample)]
            if _has_letters(sample, self.fewest_paragraph_letters):
                language, probability = self.identify(sample)
                yield Mark(f"language.{language}", start, end, probability)


def _sample(text: str, characters: int) -> str:
    if len(text) <= characters:
        return text
    part = max(1, characters // _PARTS)
    starts = [number * (len(text) - part) // (_PARTS - 1) for number in range(_PARTS)]
    return "\n".join(text[start : start + part] for start in starts)


def _has_letters(text: str, fewest: int) -> bool:
    """Whether its letters are so many bytes of UTF-8."""
    letters = "".join(_LETTERS.findall(text))
    return len(letters) >= fewest or len(letters.encode("utf-8", "surrogatepass")) >= fewest


def _paragraph_spans(text: str) -> Iterator[tuple[int, int]]:
    """Ranges between blank lines, or between newlines where there are none; those that are not blank."""
    separator = _BLANK_LINES if _BLANK_LINES.search(text.strip()) else _NEWLINE
    start = 0
    for match in separator.finditer(text):
        if not text[start : match.start()].isspace() and start < match.start():
            yield start, match.start()
        start = match.end()
    if start < len(text) and not text[start:].isspace():
        yield start, len(text)
