"""A few windows of each text, chosen by their content alone, that tell which stretches may stand elsewhere too
(winnowing, Schleimer, Wilkerson & Aiken 2003, "Winnowing: local algorithms for document fingerprinting").

For passages of `length` bytes, windows of half of that are hashed, and of each `length` bytes the windows with the
least hash are chosen. Two texts that share `length` bytes share what is chosen of these, wherever they stand. Of
natural text two windows in a hundred are chosen where `length` is 200; of text that repeats itself, more.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmworks.corpus.dedup import library
from lmworks.corpus.dedup.hashes import mix
from lmworks.corpus.dedup.reference import MULTIPLIER

_BYTES = mix(np.arange(1, 257, dtype=np.uint64))  # what stands for a byte, so that all bits of a hash depend on it
_MOST = np.uint64(2**64 - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprints:
    """n chosen windows: (n,) arrays, in the order of documents and places.

    hashes     uint64
    documents  int64
    places     int64: where each begins, in bytes of UTF-8
    """

    hashes: NDArray[np.uint64]
    documents: NDArray[np.int64]
    places: NDArray[np.int64]


def window_size(length: int) -> int:
    """The bytes of a window, for passages of `length` bytes."""
    return max(length // 2, 1)


def encoded(text: str) -> NDArray[np.uint8]:
    """The bytes of a text; a surrogate, which UTF-8 has no place for, has three as well."""
    return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)


def fingerprints(texts: Iterable[str], length: int, first_document: int = 0) -> Fingerprints:
    """What is chosen of texts, the first of which has the number `first_document`. Shorter ones have nothing."""
    window = window_size(length)
    hashes, documents, places = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for document, raw in enumerate(map(encoded, texts), first_document):
        if len(raw) >= length:
            chosen, begins = winnow(raw, window, length - window + 1)
            hashes.append(chosen)
            documents.append(np.full(len(chosen), document))
            places.append(begins)
    return Fingerprints(np.concatenate(hashes), np.concatenate(documents), np.concatenate(places))


def repeated(found: Fingerprints) -> Fingerprints:
    """Those whose hash is there more than once."""
    order = np.argsort(found.hashes, kind="stable")
    hashes = found.hashes[order]
    equal = hashes[1:] == hashes[:-1]
    several = np.sort(order[np.append(equal, False) | np.append(False, equal)] if len(order) else order)
    return Fingerprints(found.hashes[several], found.documents[several], found.places[several])


def stretches_around(places: NDArray[np.int64], length: int, size: int) -> NDArray[np.int64]:
    """(n, 2) int64: what any passage of `length` bytes that holds a window at one of the sorted `places` of a text of
    `size` bytes can lie in, as half-open ranges that do not touch."""
    starts = np.maximum(places + window_size(length) - length, 0)
    ends = np.minimum(places + length, size)
    new = np.append(True, starts[1:] > ends[:-1])  # both ascend, since the places do
    return np.stack((starts[new], ends[np.append(new[1:], True)]), axis=1)


def winnow(text: NDArray[np.uint8], window: int, width: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """(hashes, places) of the windows of so many bytes that have the least hash of any run of `width` neighbours, in
    order; of runs that an end of the text cuts off as well."""
    compiled = library.load()
    if compiled is None:
        hashes = window_hashes(text, window)
        places = np.flatnonzero(_closing(hashes, width) == hashes)
        return hashes[places], places
    text = np.ascontiguousarray(text)
    hashes, places = np.empty(len(text), np.uint64), np.empty(len(text), np.int64)
    number = library.check(
        compiled.lmworks_data_winnow(text.ctypes.data, len(text), window, width, hashes.ctypes.data, places.ctypes.data)
    )
    return hashes[:number].copy(), places[:number].copy()


def _closing(values: NDArray[np.uint64], width: int) -> NDArray[np.uint64]:
    """At each place the largest among the minima of all runs of `width` values that it is in: its own value where it is
    the least of one of them. Runs that the ends cut off count as well."""
    lowest = _running_minimum(np.pad(values, width - 1, constant_values=_MOST), width)
    return ~_running_minimum(~lowest, width)


def _running_minimum(values: NDArray[np.uint64], width: int) -> NDArray[np.uint64]:
    """(n - width + 1,): the least of each run of `width` values, put together from runs of 1, 2, 4, ... values."""
    size = 1
    while size < width:
        step = min(size, width - size)
        values = np.minimum(values[:-step], values[step:])
        size += step
    return values


def window_hashes(text: NDArray[np.uint8], length: int) -> NDArray[np.uint64]:
    """(len(text) - length + 1,) uint64: the hash of the `length` bytes at each place.

    A polynomial over the bytes, put together from those over 1, 2, 4, ... bytes: a step for each binary digit.
    """
    number = max(len(text) - length + 1, 0)
    whole = np.zeros(number, np.uint64)
    part = _BYTES[text]
    done, size, power = 0, 1, MULTIPLIER
    while number and size <= length:
        if length & size:
            whole = whole * np.uint64(power) + part[done : done + number]
            done += size
        if 2 * size <= length:
            part = part[:-size] * np.uint64(power) + part[size:]
        size, power = 2 * size, power * power % 2**64
    return mix(whole)
