"""Paragraphs that stand in several documents: notices, menus, quoted letters.

A paragraph is known by the 64-bit hash of its words, so that punctuation and capitals make no difference; among sixty
million different paragraphs, two that are taken for equal are expected once in ten thousand collections.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from lmworks.corpus.dedup.hashes import word_bytes
from lmworks.corpus.dedup.match_tables import Places

LEAST = 80  # characters
_BORDER = re.compile(r"\n\s*\n")


@dataclass(frozen=True, slots=True, eq=False)
class Paragraphs:
    """n paragraphs of documents: (n,) arrays, offsets in code points, in the order of documents and beginnings."""

    hashes: NDArray[np.uint64]
    documents: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


def paragraphs_of(texts: Iterable[str], least: int = LEAST, first_document: int = 0) -> Paragraphs:
    """The paragraphs of texts, between blank lines, that have at least `least` characters and a word.

    `first_document` is the number of the first text. It keeps 32 bytes a paragraph.
    """
    hashes, places = [], []
    for document, text in enumerate(texts, first_document):
        for start, end in _ranges(text):
            if end - start >= least and (spelled := word_bytes(text[start:end]).split()):
                hashes.append(int.from_bytes(blake2b(b" ".join(spelled), digest_size=8).digest(), "little"))
                places.append((document, start, end))
    documents, starts, ends = np.array(places, np.int64).reshape(-1, 3).T
    return Paragraphs(np.array(hashes, np.uint64), documents, starts, ends)


def _ranges(text: str) -> Iterator[tuple[int, int]]:
    """What lies between borders, without the spaces at its ends."""
    start = 0
    for end, after in [*(match.span() for match in _BORDER.finditer(text)), (len(text), len(text))]:
        piece = text[start:end]
        stripped = piece.strip()
        begin = start + len(piece) - len(piece.lstrip())
        if stripped:
            yield begin, begin + len(stripped)
        start = after


def repeated_paragraphs(paragraphs: Paragraphs) -> Places:
    """All places of the paragraphs that several documents have."""
    order = np.lexsort((paragraphs.starts, paragraphs.documents, paragraphs.hashes))
    documents, starts, ends = paragraphs.documents[order], paragraphs.starts[order], paragraphs.ends[order]
    groups = np.unique(paragraphs.hashes[order], return_inverse=True)[1]
    new = np.ones(len(order), bool)
    new[1:] = (groups[1:] != groups[:-1]) | (documents[1:] != documents[:-1])
    several = np.bincount(groups, weights=new)[groups] > 1
    groups = np.unique(groups[several], return_inverse=True)[1]
    return Places(groups, documents[several], starts[several], ends[several])
