"""In which language a text is, and which of its paragraphs are in another one.

Identification is a function from a text to a language and its probability; `py3langid` (Lui and Baldwin 2011 and 2012;
BSD, its model comes in the wheel) is one, and any other can take its place. Languages are ISO 639-1 codes where there
are such, else ISO 639-3; `zxx` is no language (numbers, markup, identifiers), `und` one that cannot be identified.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from lmworks.corpus.attributes import Attributes, TaggedSpan
from lmworks.corpus.taggers.tagger import Text

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

Identify = Callable[[str], tuple[str, float]]  # the most probable language of a text, and its probability from 0 to 1

UNDETERMINED = "und"
_PRIOR = 0.2  # of a language without a code in ISO 639-1, relative to one that has it
# A text is identified by four parts of equal length, from its beginning to its end, so that neither an English licence
# above a German book nor its index decides; 2,000 characters are enough for any method of n-grams.
_SAMPLE, _PARTS = 2_000, 4
_PARAGRAPH_SAMPLE = 250  # the beginning of a paragraph
# Bytes of letters in UTF-8 without which a text or paragraph is not identified: so many of Latin script, a third of
# Han, which say as much.
_LETTERS_OF_TEXT, _LETTERS_OF_PARAGRAPH = 20, 60
_LETTERS = re.compile(r"[^\W\d_]+")
_BLANK_LINES = re.compile(r"\n\s*\n")
_NEWLINE = re.compile(r"\n")


def py3langid(text: str) -> tuple[str, float]:
    """140 languages, rather a large one than a small one. The probability is calibrated for the length of the text: a
    short one is less sure.

    The first call costs some tenths of a second: the model is read.
    """
    identifier = _identifier()
    language, probability = identifier.classify(text)
    if _prior(language) < 1:
        language, probability = max(identifier.rank(text), key=lambda each: each[1] * _prior(each[0]))
    return language, min(1.0, float(probability))  # float32 may exceed 1 by a rounding


def _prior(language: str) -> float:
    """Short texts in a language that many write are taken for its small relatives (English for Nigerian Pidgin): those
    are rare, and need more evidence."""
    return _PRIOR if len(language) > 2 and language != "zxx" else 1.0


@cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    # py3langid 0.4 reads its model by this name; up to 0.3 it was from_pickled_model.
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language(text: Text, identify: Identify = py3langid) -> Attributes:
    """A label `language`, which is `und` for too few letters, with no measures then, and otherwise:

    language_probability  Of that language, given the sample.
    language_share        Of the characters in identified paragraphs, those in it; absent where there are no two
                          paragraphs that have letters enough.

    A mark `language.CODE` on every paragraph that is identified as in another language, its score the probability of
    that. Paragraphs are between blank lines, or between newlines where there is no blank line.
    """
    sample = _sample(text.text)
    if not _has_letters(sample, _LETTERS_OF_TEXT):
        return Attributes(labels={"language": UNDETERMINED})
    code, probability = identify(sample)
    paragraphs = list(_paragraphs(text.text, identify))
    others = tuple(mark for mark in paragraphs if mark.rule != f"language.{code}")
    measures = {"language_probability": probability}
    if len(paragraphs) > 1:
        all_characters, foreign = (sum(mark.end - mark.start for mark in marks) for marks in (paragraphs, others))
        measures["language_share"] = (all_characters - foreign) / all_characters
    return Attributes(measures, others, {"language": code})


def _sample(text: str) -> str:
    if len(text) <= _SAMPLE:
        return text
    part = _SAMPLE // _PARTS
    starts = [number * (len(text) - part) // (_PARTS - 1) for number in range(_PARTS)]
    return "\n".join(text[start : start + part] for start in starts)


def _has_letters(text: str, fewest: int) -> bool:
    """Whether its letters are so many bytes of UTF-8."""
    letters = "".join(_LETTERS.findall(text))
    return len(letters) >= fewest or len(letters.encode("utf-8", "surrogatepass")) >= fewest


def _paragraphs(text: str, identify: Identify) -> Iterator[TaggedSpan]:
    """Of every paragraph with letters enough its language, as a mark. The only one of a text is not asked for: it is
    the text."""
    spans = list(_paragraph_spans(text))
    for start, end in spans if len(spans) > 1 else ():
        sample = text[start : min(end, start + _PARAGRAPH_SAMPLE)]
        if _has_letters(sample, _LETTERS_OF_PARAGRAPH):
            code, probability = identify(sample)
            yield TaggedSpan(f"language.{code}", start, end, probability)


def _paragraph_spans(text: str) -> Iterator[tuple[int, int]]:
    """Ranges between blank lines, or between newlines where there are none; those that are not blank."""
    separator = _BLANK_LINES if _BLANK_LINES.search(text.strip()) else _NEWLINE
    ends = [*(match.span() for match in separator.finditer(text)), (len(text), len(text))]
    start = 0
    for end, following in ends:
        if text[start:end].strip():
            yield start, end
        start = following
