"""Questions that lean on those before them, "and how do I clear it?", as a search can read them.

A conversational question is made to stand alone by adding the words of the history that it lacks, which for search does
about as well as rewriting it (Voskarides et al., 2020, "Query Resolution for Conversational Search").
"""

import re
from collections.abc import Sequence

from lmworks.retrieve.bm25 import STOP_WORDS
from lmworks.retrieve.symbols import written_names

_JOINS = re.compile(r"\W*(?:(?:and|but|or|so|also|then)\b|(?:what|how) about\b|why(?: not)?\W*$)", re.IGNORECASE)
_REFERS = re.compile(  # not "a function that copies", "is there", "is it possible"
    r"\b(?:it(?! (?:possible|necessary|true|safe|better|worth)\b)|its|they|them|theirs?|he|she|him|his|hers?|the same"
    r"|(?<!is )(?<!are )there(?! (?:is|are)\b)|instead|an?other ones?|the (?:former|latter|first|second|other)(?: one)?"
    r"|(?:about|can|do|does|for|from|in|is|like|of|on|to|was|will|with) (?:this|that|these|those)"
    r"|(?:this|that|these|those)(?: ones?)?\W*$|ones?(?=\W*$| (?:as|by|for|from|in|to|with)\b))\b",
    re.IGNORECASE,
)
REACH = 4  # questions back
OWN_WORDS = 5  # content words with which a question that refers to something may still need an earlier one
ADDED = 100  # characters at most that are added, as few as are asked: so that the encoder cuts neither
_EMPTY = STOP_WORDS | frozenset({
    "about", "again", "also", "could", "did", "else", "instead", "just", "many", "mean", "much", "not", "one", "ones",
    "please", "same", "should", "show", "tell", "work", "works", "use", "used", "using", "example", "give", "get",
    "difference", "between", "explain",
})  # fmt: skip


def standalone(question: str, earlier: Sequence[str]) -> str:
    """The question with the content words of the one before it where it leans on that, names first; else as it is.

    `earlier` are the questions before it, oldest first; the last may lean on one before itself.
    """
    earlier = earlier[-REACH:]
    if not earlier or len(question) > ADDED or not _leans(question):
        return question
    before = standalone(earlier[-1], earlier[:-1])
    known = set(re.findall(r"\w+", question.lower()))
    names = [name for name in written_names(before) if name not in question.lower()]
    words = [word for word in re.findall(r"\w+", before) if word.lower() not in _EMPTY | known]
    added = ""
    for word in dict.fromkeys([*names, *(word for word in words if word.lower() not in " ".join(names))]):
        if len(added) + len(word) < ADDED:
            added = f"{added} {word}"
    return f"{question}{added}"


def _leans(question: str) -> bool:
    """Whether a question says too little by itself: it joins on, refers to something, or has no words of its own."""
    words = [word for word in re.findall(r"\w+", question.lower()) if word not in _EMPTY]
    if len(words) > OWN_WORDS or written_names(question):
        return False
    return not words or bool(_JOINS.match(question) or _REFERS.search(question))
