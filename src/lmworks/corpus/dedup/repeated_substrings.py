"""Passages that stand in several places, word for word (Lee et al. 2022, "Deduplicating training data makes language
models better", section 4.1), as groups of the places of one text.

Every `length` bytes that stand twice in the corpus are found. Windows that follow each other wherever they stand belong
to one passage, which is as long as all of its places agree: where a passage of two documents continues in only one of a
third, there are two passages, and they overlap. So a decision on which documents are there may keep one place of
each passage and take out the others: each byte that goes is left standing in the place of some passage that holds it.

Most of a corpus stands nowhere else, and is put aside before: a few windows of each text, chosen by their content
alone, tell which stretches may be repeated (winnowing, Schleimer, Wilkerson & Aiken 2003, "Winnowing: local algorithms
for document fingerprinting"), for about a byte of memory for each byte of text. Windows of half of `length` are hashed,
and of each `length` bytes those with the least hash are chosen, two in a hundred of natural text where `length` is 200:
two texts that share `length` bytes share what is chosen of these. Of those stretches alone every window is hashed,
which needs `MEMORY` bytes for each of theirs, in one process; a corpus that would need more than is allowed is refused.

Paragraphs that stand in several documents (notices, menus, quoted letters) are found by the 64-bit hash of their words,
so that punctuation and capitals make no difference; among sixty million different ones, two that are taken for equal
are expected once in ten thousand collections.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from lmworks.corpus.dedup.hashes import UNSPACED, word_bytes
from lmworks.corpus.dedup.library import winnow
from lmworks.corpus.dedup.match_tables import Places
from lmworks.corpus.dedup.reference import BYTES, window_hashes

LENGTH = 200  # bytes: the 50 tokens of the paper, or some 35 English words
MOST_BYTES = 400_000_000  # that are compared at once
MEMORY = 70  # bytes for each of those
SEPARATOR = 0xFF  # behind each stretch: a byte that UTF-8 has nowhere
_INSIDE = re.compile(rf"(?![{UNSPACED}])\w(?=(?![{UNSPACED}])\w)")  # a character that the next one continues a word of
_SPACES = 100  # characters before a place that are looked at
_BORDER = re.compile(r"\n\s*\n")  # of paragraphs


# ---------------------------------------------------------------------------------------------------------------------
# Stretches that may be repeated


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
    """The chosen windows of texts, the first of which has the number `first_document`. Shorter ones have none."""
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


# ---------------------------------------------------------------------------------------------------------------------
# Passages


def repeated_passages(
    texts: Sequence[str], length: int = LENGTH, most_bytes: int = MOST_BYTES, chosen: Fingerprints | None = None
) -> Places:
    """All passages of at least `length` bytes of UTF-8 that stand in several places of the texts; those of a group
    begin with the same text.

    `texts` may read a text each time that it is asked for a number. `chosen` are the `fingerprints` of all, where they
    were made before. Places are of whole words and without the space before them: what is left of a text when one is
    cut out has no halves of words, and none run together. Of a text that repeats itself within `length` bytes, such as
    a line of dashes, a place is as long as that continues. ValueError for a length below 2, and where more than
    `most_bytes` would have to be compared.
    """
    if length < 2:
        raise ValueError(f"a repeated passage has at least two bytes, got {length}")
    again = repeated(fingerprints(texts, length) if chosen is None else chosen)
    text, stretches = _gathered(texts, again, length, most_bytes)
    return _as_words(texts, _places(text, stretches, length))


def _gathered(
    texts: Sequence[str], again: Fingerprints, length: int, most_bytes: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The bytes of what may be repeated, one stretch after the other, each with a separator behind it, and (n, 3) int64
    of each the document, start and end in it."""
    found, parts, size = [np.empty((0, 3), np.int64)], [np.empty(0, np.uint8)], 0
    borders = np.flatnonzero(again.documents[1:] != again.documents[:-1]) + 1
    separator = np.array([SEPARATOR], np.uint8)
    for rows in np.split(np.arange(len(again.places)), borders) if len(again.places) else ():
        document = int(again.documents[rows[0]])
        raw = encoded(texts[document])
        ranges = stretches_around(again.places[rows], length, len(raw))
        size += int((ranges[:, 1] - ranges[:, 0] + 1).sum())
        found.append(np.insert(ranges, 0, document, axis=1))
        if size <= most_bytes:
            parts += [piece for start, end in ranges.tolist() for piece in (raw[start:end], separator)]
    if size > most_bytes:
        raise ValueError(
            f"{size / 1e6:,.1f} MB of the texts may be passages that stand elsewhere, and to compare them would take "
            f"some {size * MEMORY / 1e9:,.1f} GB of memory; {most_bytes / 1e6:,.1f} MB are allowed: allow more, look "
            "for longer passages, or take out equal and alike documents first"
        )
    return np.concatenate(parts), np.concatenate(found)


def _places(text: NDArray[np.uint8], stretches: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """(n, 4) int64: group, document, start and end in bytes, in the order of groups, documents and starts."""
    owners = first_occurrences(text, length)  # the first place of each window's bytes
    separators = np.cumsum(text == SEPARATOR, dtype=np.int32)
    whole = separators[length - 1 :] == separators[: len(owners)] if len(owners) else np.empty(0, bool)
    whole &= text[: len(owners)] != SEPARATOR
    counts = np.bincount(owners[whole], minlength=len(owners))
    windows = np.flatnonzero(whole & (counts[owners] > 1))  # within one stretch, of bytes that stand in several places
    owners = owners[windows]
    if not len(windows):
        return np.empty((0, 4), np.int64)
    continues = _continues_alike(windows, owners)
    begins = np.ones(len(windows), bool)
    begins[1:] = ~continues[:-1]
    first, last = np.flatnonzero(begins), np.flatnonzero(~continues)
    lengths = stretches[:, 2] - stretches[:, 1] + 1
    base = np.cumsum(lengths) - lengths
    rows = np.searchsorted(base, windows[first], side="right") - 1
    shift = stretches[rows, 1] - base[rows]
    table = np.stack(
        (owners[first], stretches[rows, 0], windows[first] + shift, windows[last] + length + shift), axis=1
    )
    # Places of one group and document, the next less than `length` bytes behind the one before, are one place.
    places: list[list[int]] = []
    for row in table[np.lexsort((table[:, 2], table[:, 1], table[:, 0]))].tolist():
        if places and places[-1][:2] == row[:2] and row[2] - places[-1][2] < length:
            places[-1][3] = max(places[-1][3], row[3])
        else:
            places.append(row)
    several = Counter(row[0] for row in places)
    return np.array([row for row in places if several[row[0]] > 1], np.int64).reshape(-1, 4)


def first_occurrences(text: NDArray[np.uint8], length: int) -> NDArray[np.int64]:
    """(len(text) - length + 1,) int64: for each place the earliest one at which the same `length` bytes begin, by their
    hashes of 64 bits: among 400 million windows two that differ are taken for equal once in 230 collections."""
    _, first, number = np.unique(window_hashes(BYTES[text], length), return_index=True, return_inverse=True)
    return first[number]


def _continues_alike(windows: NDArray[np.int64], owners: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) whether behind every place of a window's bytes the same window follows, and it stands nowhere else."""
    numbers = np.unique(owners, return_inverse=True)[1]
    sizes = np.bincount(numbers)
    following = np.full(len(windows), -1, np.int64)
    next_to = np.flatnonzero(windows[1:] == windows[:-1] + 1)
    following[next_to] = numbers[next_to + 1]
    lowest, highest = np.full(len(sizes), len(sizes), np.int64), np.full(len(sizes), -1, np.int64)
    np.minimum.at(lowest, numbers, following)
    np.maximum.at(highest, numbers, following)
    alike = (lowest == highest) & (lowest >= 0)
    alike[alike] = sizes[lowest[alike]] == sizes[alike]
    return alike[numbers]


# ---------------------------------------------------------------------------------------------------------------------
# Bytes into words


def _as_words(texts: Sequence[str], table: NDArray[np.int64]) -> Places:
    order = np.argsort(table[:, 1], kind="stable")
    borders = np.flatnonzero(np.diff(table[order, 1])) + 1
    for rows in np.split(order, borders) if len(order) else ():
        text = texts[int(table[rows[0], 1])]
        in_code_points = as_code_points(encoded(text), table[rows, 2:]).tolist()
        table[rows, 2:] = [_trimmed(text, start, end) for start, end in in_code_points]
    table = table[table[:, 2] < table[:, 3]]
    groups, counts = np.unique(table[:, 0], return_inverse=True, return_counts=True)[1:]
    several = counts[groups] > 1
    table, groups = table[several], np.unique(groups[several], return_inverse=True)[1]
    return Places(groups, table[:, 1], table[:, 2], table[:, 3])


def as_code_points(text: NDArray[np.uint8], ranges: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n, 2) ranges of bytes as ranges of the whole characters in them; a range may become empty."""
    begins = (text & 0xC0) != 0x80  # where a character begins
    if begins.all():
        return ranges
    before = np.concatenate(([0], np.cumsum(begins)))
    border = np.append(begins, True)
    starts, ends = ranges[:, 0], ranges[:, 1]
    first = before[starts]
    last = before[ends] - ~border[ends]  # a character that continues behind the end is not in it
    return np.stack((first, np.maximum(first, last)), axis=1)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The place without parts of words, and without the space before it; also without the space at its end where what
    is before it would not keep apart what is left."""
    while start < end and start and _INSIDE.match(text, start - 1):
        start += 1
    while start < end < len(text) and _INSIDE.match(text, end - 1):
        end -= 1
    start = end - len(text[start:end].lstrip())
    lead, bare = text[max(start - _SPACES, 0) : start], start + len(text[start:end].rstrip())
    lead = lead[len(lead.rstrip()) :]
    keeps_apart = not start or (lead and lead.count("\n") >= text[bare:end].count("\n"))
    return start, end if keeps_apart else bare


# ---------------------------------------------------------------------------------------------------------------------
# Paragraphs


@dataclass(frozen=True, slots=True, eq=False)
class Paragraphs:
    """n paragraphs of documents: (n,) arrays, offsets in code points, in the order of documents and beginnings."""

    hashes: NDArray[np.uint64]
    documents: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


def paragraphs_of(texts: Iterable[str], least: int, first_document: int = 0) -> Paragraphs:
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
    """The ranges between borders, without the spaces at their ends."""
    start = 0
    for end, after in [*(match.span() for match in _BORDER.finditer(text)), (len(text), len(text))]:
        piece = text[start:end]
        stripped = piece.strip()
        begin = start + len(piece) - len(piece.lstrip())
        if stripped:
            yield begin, begin + len(stripped)
        start = after


def repeated_paragraphs(found: Paragraphs) -> Places:
    """All places of the paragraphs that several documents have."""
    groups = np.unique(found.hashes, return_inverse=True)[1]
    number = int(found.documents.max(initial=0)) + 1
    owners = np.bincount(np.unique(groups * number + found.documents) // number)  # documents that have each paragraph
    rows = np.flatnonzero(owners[groups] > 1)
    rows = rows[np.lexsort((found.starts[rows], found.documents[rows], groups[rows]))]
    groups = np.unique(groups[rows], return_inverse=True)[1]
    return Places(groups, found.documents[rows], found.starts[rows], found.ends[rows])
