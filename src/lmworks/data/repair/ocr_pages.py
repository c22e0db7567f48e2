"""How bad the OCR of a text is, by page: the share of strings that no printed word can be.

What `repair_ocr` corrects beyond doubt is not looked for: of a text that was repaired, nothing of it is left.
"""

import re

from lmworks.data.annotation import Annotations, Mark, Text
from lmworks.data.repair.pages import find_pages

_HOPELESS = 0.25  # of the strings of a page
_FEWEST = 20  # strings of a page of which a share says anything

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


def measure_ocr(text: Text) -> Annotations:
    """Measure `ocr_error_rate`: the share of strings that are garbage. Pages with a quarter of such strings are marked
    `ocr.hopeless`, with that share as score. Nothing of a text without words."""
    wrong = strings = 0
    marks: list[Mark] = []
    for page in find_pages(text.text):
        on_page, wrong_on_page = _count(text.text[page.start : page.end])
        strings += on_page
        wrong += wrong_on_page
        if on_page >= _FEWEST and wrong_on_page >= _HOPELESS * on_page:
            marks.append(Mark("ocr.hopeless", page.start, page.end, wrong_on_page / on_page))
    return Annotations({"ocr_error_rate": wrong / strings} if strings else {}, tuple(marks))


def _count(page: str) -> tuple[int, int]:
    """(strings between spaces, those of them that are wrong); an address breaks the rules, and is not."""
    strings = page.split()
    return len(strings), sum("/" not in string and bool(_GARBAGE.search(string)) for string in strings)
