"""From texts to sentences of words: what a word is, and where the context of a word ends.

A word is a run of letters, digits and the marks on them, with single apostrophes inside ("don't", "o'clock"). All else
stands between words, the hyphen and the underscore too. A sentence ends where a text does, at a blank line, and at
. ! ? … before a space, or 。！？ before anything, which is also behind "Mr."; no window of a word reaches beyond it.

Chinese, Japanese, Thai and other languages that write no spaces between words need a splitter of their own: whatever
takes texts here takes sentences that are lists of words as well.
"""

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

LONGEST = 1000  # words of a sentence; a longer one is cut, as the program of word2vec does

_WORD = re.compile(r"\w+(?:'\w+)*")
_END = re.compile(r"""[.!?…]+["'”’»)\]]*\s+|[。！？]|\n\s*\n""")


def sentences_of(texts: Iterable[str | Sequence[str]], lowercase: bool = True) -> Iterator[list[str]]:
    """The sentences of texts, each a list of at least one word; a text that is a list of words is a sentence already.

    Texts that are strings are brought into the normal form NFC and, with `lowercase`, into small letters. ValueError
    for a single string in place of several texts.
    """
    if isinstance(texts, str):
        raise ValueError("texts are several: give a list of strings, or [text] for a single one")
    for text in texts:
        if isinstance(text, str):
            for part in _END.split(text):
                yield from _cut(words_of(part, lowercase))
        else:
            yield from _cut(list(text))


def words_of(text: str, lowercase: bool = True) -> list[str]:
    """The words of one text, in order, wherever its sentences end."""
    text = unicodedata.normalize("NFC", text.lower() if lowercase else text)
    text = text.replace("_", " ").replace("’", "'")
    word = _WORD if text.isascii() or _marks().isdisjoint(text) else _marked_word()
    return word.findall(text)


def _cut(words: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(words), LONGEST):
        yield words[start : start + LONGEST]


@cache
def _marks() -> frozenset[str]:
    """What stands on letters: vowel signs, accents. Python's \\w has none, and words of Hindi would fall apart."""
    return frozenset(c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c)[0] == "M")


@cache
def _marked_word() -> re.Pattern[str]:
    """Fourteen times as slow as `_WORD`."""
    character = rf"[\w{''.join(sorted(_marks()))}]"
    return re.compile(rf"{character}+(?:'{character}+)*")
