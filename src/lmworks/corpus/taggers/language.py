"""The language of a text, and paragraphs in another one.

Identification is a function from a text to a language and its probability; `py3langid` (Lui and Baldwin 2011 and 2012;
BSD, its model comes in the wheel) is one, and any other can take its place. Languages are ISO 639-1 codes where there
are such, else ISO 639-3; `zxx` is no language (numbers, markup, identifiers), `und` one that cannot be identified.
"""

import re
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

from lmworks.corpus.attributes import Attributes, TaggedSpan
from lmworks.corpus.languages import UNDETERMINED
from lmworks.corpus.taggers.tagger import Text, built_in

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

Identify = Callable[[str], tuple[str, float]]  # the most probable language of a text, and its probability from 0 to 1

_PRIOR = 0.2  # of a language without a code in ISO 639-1, relative to one that has it
# A text is identified by four parts of equal length, from its beginning to its end, so that neither an English licence
# above a German book nor its index decides; 2,000 characters are enough for any method of n-grams.
_SAMPLE, _PARTS = 2_000, 4
_PARAGRAPH_SAMPLE = 250  # the beginning of a paragraph
# Bytes of letters in UTF-8 without which a text or paragraph is not identified: so many of Latin script, a third of
# Han, which say as much.
_LETTERS_OF_TEXT, _LETTERS_OF_PARAGRAPH = 20, 60
_LETTERS = re.compile(r"[^\W\d_]+")
_BLANK_LINES, _NEWLINE = re.compile(r"\n\s*\n"), re.compile(r"\n")


def py3langid(text: str) -> tuple[str, float]:
    """140 languages, rather a large one than a small one: short texts in a language that many write are taken for its
    small relatives (English for Nigerian Pidgin), which are rare, and need more evidence. The probability is calibrated
    for the length of the text. The first call costs some tenths of a second: the model is read."""
    language, probability = _identifier().classify(text)
    if _prior(language) < 1:
        language, probability = max(_identifier().rank(text), key=lambda each: each[1] * _prior(each[0]))
    return language, min(1.0, float(probability))  # float32 may exceed 1 by a rounding


def _prior(language: str) -> float:
    return _PRIOR if len(language) > 2 and language != "zxx" else 1.0


@cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language(text: Text, identify: Identify = py3langid) -> Attributes:
    """Too few letters are `und`, without scores. A paragraph stands between blank lines, or between newlines where
    there is no blank line; the score of one in another language is the probability of that."""
    part = _SAMPLE // _PARTS
    starts = [number * (len(text.text) - part) // (_PARTS - 1) for number in range(_PARTS)]
    is_long = len(text.text) > _SAMPLE
    sample = "\n".join(text.text[start : start + part] for start in starts) if is_long else text.text
    if not _has_letters(sample, _LETTERS_OF_TEXT):
        return Attributes(labels={"language": UNDETERMINED})
    code, probability = identify(sample)
    paragraphs = _paragraphs(text.text, identify)
    others = tuple(span for span in paragraphs if span.rule != f"language.{code}")
    scores = {"language_probability": probability}
    if len(paragraphs) > 1:
        all_characters, foreign = (sum(span.end - span.start for span in spans) for spans in (paragraphs, others))
        scores["language_share"] = (all_characters - foreign) / all_characters
    return Attributes(scores, others, {"language": code})


LANGUAGE = built_in("language", language)


def _has_letters(text: str, fewest: int) -> bool:
    """Whether its letters are so many bytes of UTF-8."""
    letters = "".join(_LETTERS.findall(text))
    return len(letters) >= fewest or len(letters.encode("utf-8", "surrogatepass")) >= fewest


def _paragraphs(text: str, identify: Identify) -> list[TaggedSpan]:
    """The language of every paragraph with letters enough. The only one of a text is not asked for: it is the text."""
    separator = _BLANK_LINES if _BLANK_LINES.search(text.strip()) else _NEWLINE
    borders = [(0, 0), *(match.span() for match in separator.finditer(text)), (len(text), len(text))]
    places = [(start, end) for (_, start), (end, _) in pairwise(borders) if text[start:end].strip()]
    found = []
    for start, end in places if len(places) > 1 else ():
        sample = text[start : min(end, start + _PARAGRAPH_SAMPLE)]
        if _has_letters(sample, _LETTERS_OF_PARAGRAPH):
            code, probability = identify(sample)
            found.append(TaggedSpan(f"language.{code}", start, end, probability))
    return found
