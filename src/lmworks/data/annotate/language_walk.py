"""py3langid, whose walk over the bytes of a text is compiled.

Its model is an automaton that reads a byte at a time, and a feature of most states that it comes to. The walk is a loop
of a few instructions a byte; what is made of the counts is left to py3langid, and so is the walk where nothing is
compiled. Its table of weights is held as 32-bit numbers, which it else makes of those that a text needs: 28 MB more.
"""

import ctypes
from collections.abc import Sequence
from ctypes import c_char_p, c_int64, c_void_p
from functools import cache
from typing import Any

import numpy as np
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from lmworks.compiled import open_library

CHOICE = "LMWORKS_DATA"  # environment variable: "reference" has everything run in Python


class Walk:
    """The automaton of an identifier.

    next       State and byte → the next state, 256 of them from where the row of a state begins.
    rows       Of each state, where its row begins.
    features   Of each state its feature, negative for none.

    ValueError where these do not fit together.
    """

    def __init__(
        self, library: ctypes.CDLL, following: Sequence[int], rows: Sequence[int], features: Sequence[int]
    ) -> None:
        self._walk = library.lmworks_data_count_visits
        self._next = np.ascontiguousarray(following, np.uint32)
        self._rows, self._features = np.array(rows, np.int64), np.array(features, np.int32)
        states = len(self._rows)
        if not (
            states == len(self._features)
            and states > self._next.max()
            and self._rows.min() >= 0
            and self._rows.max() + 256 <= len(self._next)
        ):
            raise ValueError("the automaton leads to states that it does not have")
        self._tables = tuple(table.ctypes.data for table in (self._next, self._rows, self._features))

    def __call__(self, text: bytes) -> dict[int, int]:
        """How often each feature is come to, in the order in which it is first; MemoryError without memory for it."""
        found, counts = np.empty((2, len(text)), np.int32)
        number = self._walk(*self._tables, text, len(text), found.ctypes.data, counts.ctypes.data)
        if number < 0:
            raise MemoryError("not enough memory to tell the language of a text")
        return dict(zip(found[:number].tolist(), counts[:number].tolist(), strict=True))


class CompiledIdentifier(LanguageIdentifier):
    """With the walk of `use`, and the weights in the precision that they are used in."""

    __slots__ = ("_walk",)

    def use(self, library: ctypes.CDLL) -> None:
        self._walk = Walk(library, self.tk_nextmove, self._rowbase, self.tk_output)
        self.nb_ptc = np.asarray(self.nb_ptc, np.float32)
        self._full_model = self.nb_ptc, self.nb_pc, self.nb_classes

    def _raw_score(self, text: Any) -> np.ndarray:
        visits = self._walk(text)
        return self._sparse_score(visits, self.nb_ptc) if visits else super()._raw_score(text)


def load_identifier() -> LanguageIdentifier:
    """py3langid with its own model; as it is where there is no compiled part."""
    library = load()
    # py3langid 0.4 reads its model by this name; up to 0.3 it was from_pickled_model.
    if library is None:
        return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier = CompiledIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.use(library)
    return identifier


@cache
def load() -> ctypes.CDLL | None:
    """The library; None where it was not built, or where the environment variable asks for the reference."""
    library = open_library("data", CHOICE, "languages are told by py3langid alone, half as fast")
    if library is not None:
        library.lmworks_data_count_visits.restype = c_int64
        library.lmworks_data_count_visits.argtypes = (c_void_p,) * 3 + (c_char_p, c_int64) + (c_void_p,) * 2
    return library
