"""Errors of OCR that are left in a book: strings that no printed word can be."""

import re

from lmworks.corpus.attributes import Attributes, TaggedSpan
from lmworks.corpus.modifiers.page_breaks import find_pages
from lmworks.corpus.taggers.tagger import Text, built_in

_HOPELESS = 0.25  # of the strings of a page
_FEWEST_STRINGS = 20  # strings of a page of which a share says anything

# What marks a string as garbage, after the rules of Taghva et al. 2001 ("Automatic removal of garbage strings in OCR
# text"), with those left out that names, numbers and addresses break.
_GARBAGE = re.compile(
    r"""[^\W\d_]\d+[^\W\d_]+\d                            # letters and digits by turns
    | [a-z][0-9][a-z]                                     # a digit within a word
    | [^\W\d_][;!?^~|}{\\<>*•¦§°»«¬"“”][^\W\d_]            # a mark within a word
    | ([^\W\d_])\1{3}                                     # one letter four times
    | \b[b-df-hj-np-tv-xz]{6,}\b                          # no vowel
    | [a-z][A-Z][a-z][A-Z]                                # small and capital letters by turns
    | (?<!\S)(?!(\S)\2*(?!\S))[^\w\s]{3,}(?!\S)           # marks alone, of several kinds
    """,
    re.X,
)


def ocr_quality(text: Text) -> Attributes:
    """Tag the pages of a book with a quarter of such strings `ocr.hopeless`, with that share as score; `ocr_error_rate`
    is the one of the book. Nothing of a text without words."""
    if text.kind != "book":
        return Attributes()
    wrong = strings = 0
    spans: list[TaggedSpan] = []
    for start, end in text.pages or find_pages(text.text):
        on_page = text.text[start:end].split()
        # An address breaks the rules, and is none.
        wrong_on_page = sum("/" not in string and bool(_GARBAGE.search(string)) for string in on_page)
        strings, wrong = strings + len(on_page), wrong + wrong_on_page
        if len(on_page) >= _FEWEST_STRINGS and wrong_on_page >= _HOPELESS * len(on_page):
            spans.append(TaggedSpan("ocr.hopeless", start, end, wrong_on_page / len(on_page)))
    return Attributes({"ocr_error_rate": wrong / strings} if strings else {}, tuple(spans))


OCR_QUALITY = built_in("ocr_quality", ocr_quality)
