"""The compiled parts: cutting, counting and encoding words, learning merges, and the lattices of Unigram.

In Python they are most of the time that training and encoding take (docs/vocabulary-training.md has figures): a regular
expression in one case, chasing pairs through dictionaries in the other. NumPy does not help, since the work is neither
uniform nor in large pieces, and a just-in-time compiler would be a large dependency for some hundred lines.
"""

import ctypes
import os
from collections.abc import Iterable, Iterator
from ctypes import c_int32, c_int64, c_void_p
from functools import cache
from typing import TypeVar

from lmworks.compiled import open_library

Text = TypeVar("Text", str, bytes)
CHOICE = "LMWORKS_TOKENIZER"  # environment variable: "reference" has everything run in Python


@cache
def load() -> ctypes.CDLL | None:
    """The library; None where it was not built, or where the environment variable asks for the reference."""
    library = open_library("tokenizer", CHOICE, "training a tokenizer and encoding much text are slow")
    return None if library is None else _declare(library)


def check(result: int) -> int:
    """A result of the library; MemoryError for the one that says that there was none."""
    if result == -1:
        raise MemoryError("not enough memory: train on fewer texts, or raise min_word_count")
    return result


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, number, small = c_void_p, c_int64, c_int32
    rule = (pointer, small, small)  # classes of characters, rule, digits
    signatures: dict[str, tuple[type | None, tuple[type, ...]]] = {
        "cut_words": (number, (*rule, pointer, number, pointer)),
        "words_new": (pointer, ()),
        "words_free": (None, (pointer,)),
        "words_size": (number, (pointer,)),
        "words_text": (number, (pointer,)),
        "words_memory": (number, (pointer,)),
        "words_count": (number, (pointer, *rule, pointer, pointer, number, number)),
        "words_add": (number, (pointer, pointer, pointer, pointer, number)),
        "words_read": (number, (pointer, pointer, pointer, pointer)),
        "merges_new": (pointer, (pointer, number, pointer, pointer, number, small, number, small)),
        "merges_free": (None, (pointer,)),
        "merges_forbid": (number, (pointer, pointer, small)),
        "merges_learn": (number, (pointer, number, pointer)),
        "unigram_new": (pointer, (pointer, number, pointer, pointer, number, small, small, number, number, small)),
        "unigram_free": (None, (pointer,)),
        "unigram_size": (number, (pointer,)),
        "unigram_read": (None, (pointer, pointer, pointer, pointer)),
        "unigram_expect": (number, (pointer, small, pointer, pointer, pointer)),
        "unigram_best": (number, (pointer, small, pointer, pointer)),
        "unigram_alternatives": (number, (pointer, pointer, pointer, pointer)),
        "unigram_keep": (number, (pointer, pointer)),
        "vocabulary_new": (pointer, (*(pointer,) * 4, number, pointer, pointer, number, small)),
        "vocabulary_free": (None, (pointer,)),
        "encoder_new": (pointer, (pointer, *rule)),
        "encoder_free": (None, (pointer,)),
        "encoder_encode": (number, (pointer, pointer, pointer, number, pointer, pointer)),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, f"lmworks_{name}")
        function.restype, function.argtypes = result, arguments
    return library
