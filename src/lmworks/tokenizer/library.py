"""The compiled parts: cutting, counting and encoding words, learning merges, and the lattices of Unigram.

In Python they are most of the time that training and encoding take (docs/vocabulary-training.md has figures): a regular
expression in one case, chasing pairs through dictionaries in the other. NumPy does not help, since the work is neither
uniform nor in large pieces, and a just-in-time compiler would be a large dependency for some hundred lines.
"""

import ctypes
from collections.abc import Iterable, Iterator
from ctypes import c_int32, c_int64, c_void_p
from functools import cache
from typing import TypeVar

from lmworks.compiled import open_library

Text = TypeVar("Text", str, bytes)
CHOICE = "LMWORKS_TOKENIZER"  # environment variable: "reference" has everything run in Python
_POINTER, _NUMBER, _SMALL = c_void_p, c_int64, c_int32
_RULE = (_POINTER, _SMALL, _SMALL)  # classes of characters, rule, digits
_FUNCTIONS: dict[str, tuple[type | None, tuple[type, ...]]] = {
    "cut_words": (_NUMBER, (*_RULE, _POINTER, _NUMBER, _POINTER)),
    "words_new": (_POINTER, ()),
    "words_free": (None, (_POINTER,)),
    "words_size": (_NUMBER, (_POINTER,)),
    "words_text": (_NUMBER, (_POINTER,)),
    "words_count": (_NUMBER, (_POINTER, *_RULE, _POINTER, _POINTER, _NUMBER, _NUMBER)),
    "words_add": (_NUMBER, (_POINTER, _POINTER, _POINTER, _POINTER, _NUMBER)),
    "words_read": (_NUMBER, (_POINTER, _POINTER, _POINTER, _POINTER)),
    "merges_new": (_POINTER, (_POINTER, _NUMBER, _POINTER, _POINTER, _NUMBER, _SMALL, _NUMBER, _SMALL)),
    "merges_free": (None, (_POINTER,)),
    "merges_forbid": (_NUMBER, (_POINTER, _POINTER, _SMALL)),
    "merges_learn": (_NUMBER, (_POINTER, _NUMBER, _POINTER)),
    "unigram_new": (
        _POINTER,
        (_POINTER, _NUMBER, _POINTER, _POINTER, _NUMBER, _SMALL, _SMALL, _NUMBER, _NUMBER, _SMALL),
    ),
    "unigram_free": (None, (_POINTER,)),
    "unigram_size": (_NUMBER, (_POINTER,)),
    "unigram_read": (None, (_POINTER, _POINTER, _POINTER, _POINTER)),
    "unigram_expect": (_NUMBER, (_POINTER, _SMALL, _POINTER, _POINTER, _POINTER)),
    "unigram_best": (_NUMBER, (_POINTER, _SMALL, _POINTER, _POINTER)),
    "unigram_alternatives": (_NUMBER, (_POINTER, _POINTER, _POINTER, _POINTER)),
    "unigram_keep": (_NUMBER, (_POINTER, _POINTER)),
    "vocabulary_new": (_POINTER, (*(_POINTER,) * 4, _NUMBER, _POINTER, _POINTER, _NUMBER, _SMALL)),
    "vocabulary_free": (None, (_POINTER,)),
    "encoder_new": (_POINTER, (_POINTER, *_RULE)),
    "encoder_free": (None, (_POINTER,)),
    "encoder_encode": (_NUMBER, (_POINTER, _POINTER, _POINTER, _NUMBER, _POINTER, _POINTER)),
}


@cache
def load() -> ctypes.CDLL | None:
    """The library; None where it was not built, or where the environment variable asks for the reference."""
    return open_library("tokenizer", CHOICE, "training a tokenizer and encoding much text are slow", _FUNCTIONS)


def check(result: int) -> int:
    """A result of the library; MemoryError for the one that says that there was none."""
    if result == -1:
        raise MemoryError("not enough memory: train on fewer texts, or raise min_word_count")
    return result


def batches(texts: Iterable[Text], size: int) -> Iterator[list[Text]]:
    """The texts in runs of at least `size` characters or bytes together, but for the last."""
    batch: list[Text] = []
    held = 0
    for text in texts:
        batch.append(text)
        held += len(text)
        if held >= size:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch
