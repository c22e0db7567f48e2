"""The compiled part: learning by negative sampling, and GloVe's steps.

Learning is thousands of short loops a word, of which each depends on the one before, so that NumPy has nothing large to
work on. Every function has its definition in Python, with the same results bit by bit, which runs where nothing was
compiled (docs/word-vectors.md says how much slower).
"""

import ctypes
from ctypes import c_double, c_float, c_int32, c_int64, c_uint64, c_void_p
from functools import cache

import numpy as np

from lmworks.compiled import open_library

CHOICE = "LMWORKS_EMBEDDINGS"  # environment variable: "reference" has everything run in Python
LANES = 16  # a row in memory has a multiple of so many numbers
_FUNCTIONS = {
    "vectors_learn": (c_int64, (c_void_p, c_void_p, c_int64, c_uint64, c_int64)),
    "glove_learn": (c_int64, (*(c_void_p,) * 5, c_int64, c_void_p)),
}


@cache
def load() -> ctypes.CDLL | None:
    """The library; None where it was not built, or where the environment variable asks for the reference."""
    return open_library(
        "embeddings", CHOICE, "word vectors are learnt by NumPy, some fifty times as slowly", _FUNCTIONS
    )


def check(result: int) -> int:
    """A result of the library; MemoryError for the one that says that there was none."""
    if result == -1:
        raise MemoryError("not enough memory to learn word vectors")
    return result


class Model(ctypes.Structure):
    """`Model` of cpp/negative_sampling.h."""

    _fields_ = (
        *((name, c_void_p) for name in ("input", "output", "row_ends", "rows", "keep", "limits", "others", "sigmoid")),
        *(("parts", c_int64), ("words", c_int64), ("rate", c_double)),
        *(("sigmoid_limit", c_float), ("sigmoid_density", c_float)),
        *((name, c_int32) for name in ("table_size", "window", "negative", "skip_gram")),
    )


class Factors(ctypes.Structure):
    """`Factors` of cpp/glove.h."""

    _fields_ = (
        *((name, c_void_p * 2) for name in ("rows", "row_squares", "biases", "bias_squares")),
        *(("parts", c_int64), ("rate", c_float)),
    )


def zero_rows(number: int, dimensions: int, fill: float = 0.0) -> np.ndarray:
    """(number, dimensions rounded up to whole lanes) float32, each row at the beginning of a cache line."""
    width = -(-dimensions // LANES) * LANES
    memory = np.empty(number * width * 4 + 64, np.uint8)
    start = -memory.ctypes.data % 64
    rows = memory[start : start + number * width * 4].view(np.float32).reshape(number, width)
    rows[:] = fill
    return rows
