"""Paragraphs that stand in several documents: notices, menus, quoted letters. The first document keeps its own.

A paragraph is known by the 64-bit hash of its words, so that punctuation and capitals make no difference; among sixty
million different paragraphs, two that are taken for equal are expected once in ten thousand collections.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lmworks.data.annotation import Mark
from lmworks.data.duplicates.words import word_bytes

Unit = Literal["paragraph", "line"]
RULE = "duplicate.paragraph"
LEAST = 80  # characters
_BORDERS = {"paragraph": re.compile(r"\n\s*\n"), "line": re.compile(r"\n")}


@dataclass(frozen=True, slots=True, eq=False)
class Paragraphs:
    """n paragraphs of documents: (n,) arrays, offsets in code points, in the order of documents and beginnings."""

    hashes: NDArray[np.uint64]
    documents: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class RepeatedParagraphs:
    """Places of n paragraphs that several documents have, in groups of those with one content; (n,) int64 each.

    groups                   of which paragraph, counted from 0; the places of one are together, in their order
    documents, starts, ends  where, in code points
    frequencies              how many documents have it
    """

    groups: NDArray[np.int64]
    documents: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    frequencies: NDArray[np.int64]

    @property
    def owners(self) -> NDArray[np.int64]:
        """(n,) the document that keeps each: the one with the lowest number."""
        return self.documents[np.searchsorted(self.groups, self.groups)]

    def marks(self) -> dict[int, tuple[Mark, ...]]:
        """Document → its paragraphs that stand elsewhere, or further up, before."""
        again = np.flatnonzero(self.groups[1:] == self.groups[:-1]) + 1
        found: dict[int, list[Mark]] = {}
        for place in again[np.lexsort((self.starts[again], self.documents[again]))].tolist():
            mark = Mark(RULE, int(self.starts[place]), int(self.ends[place]))
            found.setdefault(int(self.documents[place]), []).append(mark)
        return {document: tuple(marks) for document, marks in found.items()}


def paragraphs_of(
    texts: Iterable[str], unit: Unit = "paragraph", least: int = LEAST, first_document: int = 0
) -> Paragraphs:
    """The paragraphs, between blank lines, or the lines of texts, that have at least `least` characters and a word.

    `first_document` is the number of the first text. It keeps 32 bytes a paragraph.
    """
    hashes, places = [], []
    for document, text in enumerate(texts, first_document):
        for start, end in _ranges(text, _BORDERS[unit]):
            if end - start >= least and (spelled := word_bytes(text[start:end]).split()):
                hashes.append(int.from_bytes(blake2b(b" ".join(spelled), digest_size=8).digest(), "little"))
                places.append((document, start, end))
    documents, starts, ends = np.array(places, np.int64).reshape(-1, 3).T
    return Paragraphs(np.array(hashes, np.uint64), documents, starts, ends)


def _ranges(text: str, border: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """What lies between borders, without the spaces at its ends."""
    start = 0
    for end, after in [*(match.span() for match in border.finditer(text)), (len(text), len(text))]:
        piece = text[start:end]
        stripped = piece.strip()
        begin = start + len(piece) - len(piece.lstrip())
        if stripped:
            yield begin, begin + len(stripped)
        start = after


def joined(parts: Sequence[Paragraphs]) -> Paragraphs:
    """Those of the parts of a corpus as one; at least one part."""
    return Paragraphs(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("hashes", "documents", "starts", "ends"))
    )


def repeated_paragraphs(paragraphs: Paragraphs, at_least: int = 2) -> RepeatedParagraphs:
    """The paragraphs that at least so many documents have.

    The first place of each is that in the document with the lowest number: number them by `clusters.by_priority`.
    ValueError for fewer than two documents.
    """
    if at_least < 2:
        raise ValueError(f"a paragraph is repeated in at least two documents, got {at_least}")
    order = np.lexsort((paragraphs.starts, paragraphs.documents, paragraphs.hashes))
    hashes, documents = paragraphs.hashes[order], paragraphs.documents[order]
    new = np.ones(len(order), bool)
    new[1:] = hashes[1:] != hashes[:-1]
    new_document = new.copy()
    new_document[1:] |= documents[1:] != documents[:-1]
    groups = np.cumsum(new) - 1
    frequencies = np.bincount(groups, weights=new_document).astype(np.int64)[groups]
    found = order[frequencies >= at_least]
    return RepeatedParagraphs(
        np.unique(groups[frequencies >= at_least], return_inverse=True)[1],
        paragraphs.documents[found],
        paragraphs.starts[found],
        paragraphs.ends[found],
        frequencies[frequencies >= at_least],
    )
