"""A statement of a licence, and what tells one from a mention.

Texts are looked at in small letters, of the same length. Between the words of a statement there may be whatever is no
letter or digit, since a comment puts its signs before each line. A name counts only where it is stated ("under the",
"license:", a title of its own): articles name licences, too.
"""

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["tag", "text", "address", "name", "public_domain"]

# How sure each kind is: a tag and a licence's own words say it; an address may be that of one picture on the page.
SCORES: dict[Kind, float] = {"tag": 1.0, "text": 1.0, "address": 0.8, "name": 0.7, "public_domain": 0.6}


@dataclass(frozen=True, slots=True)
class Statement:
    """A licence expression and where it is stated, `[start, end)`.

    family  What it is a version of, where another statement could say which; `vague` if this one does not.
    """

    start: int
    end: int
    kind: Kind
    expression: str
    family: str = ""
    vague: bool = False


def in_small_letters(text: str) -> str:
    """`text.lower()` of the same length: İ, the one letter that would become two, becomes an i."""
    return text.replace("\u0130", "i").lower()


def plain_words(text: str) -> str:
    """Words with one space between them, and + where it is written."""
    return _NO_WORD.sub(" ", text)


_NO_WORD = re.compile(r"[^\w+]+")
CUE = re.compile(
    r"\b(?:(?:under|terms|conditions|provisions|covered by|subject to|governed by)(?: \w+){0,4}"
    r"|licen[cs]e[sd]?(?: \w+){0,3}|either(?: of)?(?: the| an?)?) ?\Z"
)
_TITLE_BEFORE = re.compile(r"(?:\A|\n)\W*(?:the\W{1,3})?\Z")
_MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
_TITLE_BEHIND = re.compile(
    rf"\W{{0,20}}(?:\(\w{{2,12}}\))?\W{{0,5}}(?:\d{{1,2}}\s)?(?:{_MONTHS})?\W{{0,3}}(?:\d{{4}})?[^\w\n]*(?:\n|\Z)"
)


def is_stated(small: str, start: int) -> bool:
    """Whether what begins here is said to hold."""
    return CUE.search(plain_words(small[max(0, start - 100) : start])) is not None


def is_title(small: str, start: int, end: int) -> bool:
    """Whether it has a line of its own, as the title of a licence's full text has."""
    return (
        _TITLE_BEFORE.search(small[max(0, start - 60) : start]) is not None
        and _TITLE_BEHIND.match(small[end : end + 80]) is not None
    )


def inside_a_word(small: str, start: int) -> bool:
    return start > 0 and (small[start - 1].isalnum() or small[start - 1] == "_")
