"""The compiled part: hashes of words and shingles, signatures, windows of bytes, and sizes of intersections.

Each is a loop of a few instructions a word, which NumPy would have to write to memory and read again step by step.
Every function has its definition in `reference` or `winnowing`, with the same results bit by bit.
"""

import ctypes
from ctypes import c_int64, c_uint64, c_void_p
from functools import cache

from lmworks.compiled import open_library

CHOICE = "LMWORKS_DATA"  # environment variable: "reference" has everything run in Python


@cache
def load() -> ctypes.CDLL | None:
    """The library; None where it was not built, or where the environment variable asks for the reference."""
    library = open_library("data", CHOICE, "duplicates are searched by NumPy, some ten times as slowly")
    return None if library is None else _declare(library)


def check(result: int) -> int:
    """A result of the library; MemoryError for the one that says that there was none."""
    if result == -1:
        raise MemoryError("not enough memory to hash a text: give fewer or shorter texts at once")
    return result


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, number = c_void_p, c_int64
    signatures: dict[str, tuple[type, ...]] = {
        "hash_words": (pointer, pointer, number, pointer, pointer),
        "shingle_sets": (pointer, pointer, number, number, pointer, pointer),
        "signatures": (pointer, pointer, number, number, number, c_uint64, pointer),
        "winnow": (pointer, number, number, number, pointer, pointer),
        "common": (pointer, pointer, pointer, number, pointer),
    }
    for name, arguments in signatures.items():
        function = getattr(library, f"lmworks_data_{name}")
        function.restype, function.argtypes = number, arguments
    return library
