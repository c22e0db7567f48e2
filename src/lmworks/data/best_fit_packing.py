"""Documents into sequences of one length: which piece of which document stands where.

`pack` cuts only what is longer than a sequence (Ding et al. 2024, "Fewer Truncations Improve Language Modeling",
section 3), into whole sequences and a rest. Rests and shorter documents are packed best-fit-decreasing, the longest
first, each into the fullest sequence that still has room; what stays free is padding. `concatenate` writes all
documents into one stream and cuts it every `length` tokens: no padding, more cuts.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmworks.corpus.dedup.hashes import mix
from lmworks.data.config import PackingMode


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Sequences of `length` tokens, each a run of segments; segment s is part of sequence i for
    offsets[i] <= s < offsets[i + 1] and holds tokens starts[s] to starts[s] + lengths[s] of documents[s].

    documents, starts, lengths  (segments,) int64
    offsets                     (sequences + 1,) int64
    """

    length: int
    documents: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @property
    def sequences(self) -> int:
        return len(self.offsets) - 1

    @property
    def tokens(self) -> int:
        """Tokens of documents in all sequences."""
        return int(self.lengths.sum())

    @property
    def padding(self) -> int:
        """Places that hold no token of a document."""
        return self.sequences * self.length - self.tokens

    @property
    def split_documents(self) -> int:
        """Documents that lie in more than one piece."""
        return int((np.bincount(self.documents) > 1).sum())


def plan_sequences(lengths: NDArray[np.integer], length: int, mode: PackingMode, seed: int = 0) -> Plan:
    """Plan documents of these `lengths` (documents,), one of them at least with a token, into sequences of `length`."""
    lengths = np.asarray(lengths, np.int64)
    return _pack(lengths, length, seed) if mode == "pack" else _concatenate(lengths, length)


def _concatenate(lengths: NDArray[np.int64], length: int) -> Plan:
    """Segments begin where a document begins and where a sequence begins."""
    ends = np.cumsum(lengths)
    total = int(ends[-1])
    cuts = np.arange(0, total, length)
    starts = np.union1d((ends - lengths)[lengths > 0], cuts)
    documents = np.searchsorted(ends, starts, "right")
    within = starts - (ends - lengths)[documents]
    offsets = np.append(np.searchsorted(starts, cuts), len(starts))
    return Plan(length, documents, within, np.diff(np.append(starts, total)), offsets)


def _pack(lengths: NDArray[np.int64], length: int, seed: int) -> Plan:
    pieces = -(-lengths // length)
    documents = np.repeat(np.arange(len(lengths)), pieces)
    number = np.arange(len(documents)) - np.repeat(np.cumsum(pieces) - pieces, pieces)  # of the piece in its document
    starts = number * length
    sizes = np.minimum(lengths[documents] - starts, length)
    # Longest first. Pieces of one length are interchangeable: a hash decides, so that neighbours in the corpus do not
    # end up in one sequence for no other reason than that.
    key = mix(np.arange(len(documents), dtype=np.uint64) + mix(np.array([seed], np.uint64)))
    order = np.lexsort((key, -sizes))
    sequence = best_fit_decreasing(sizes[order], length)
    order = order[np.argsort(sequence, kind="stable")]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(sequence))])
    return Plan(length, documents[order], starts[order], sizes[order], offsets)


def best_fit_decreasing(sizes: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
    """The bin of each item, (items,) int64: each goes into the fullest bin with room for it, or else into a new one.

    `sizes` (items,) descend and lie between 1 and `capacity`. Bins with equal room are interchangeable, and so are
    items of equal size; both are handled in bulk: r // s items of size s fill a tightest bin, with room r, one after
    the other, and a step places as many as all the tightest bins take.
    """
    values, firsts, counts = np.unique(-sizes, return_index=True, return_counts=True)
    bins = np.empty(len(sizes), np.int64)
    open_bins: dict[int, list[NDArray[np.int64]]] = {}  # room -> bins with exactly that much
    rooms: list[int] = []  # the keys, ascending
    made = 0
    for size, first, count in zip((-values).tolist(), firsts.tolist(), counts.tolist(), strict=True):
        done = 0
        while done < count:
            place = bisect_left(rooms, size)
            if place == len(rooms):
                room, fits = capacity, capacity // size
                tight = np.arange(made, made + -(-(count - done) // fits))
                made += len(tight)
            else:
                room = rooms.pop(place)
                fits, tight = room // size, np.concatenate(open_bins.pop(room))
            full, rest = divmod(count - done, fits)
            full = min(full, len(tight))
            rest = rest if full < len(tight) else 0  # items in the last bin touched, which stays partly open
            placed = full * fits + rest
            bins[first + done : first + done + placed] = np.repeat(tight, fits)[:placed]
            done += placed
            _leave(open_bins, rooms, room - fits * size, tight[:full])
            _leave(open_bins, rooms, room - rest * size, tight[full : full + 1] if rest else tight[:0])
            _leave(open_bins, rooms, room, tight[full + (rest > 0) :])
    return bins


def _leave(open_bins: dict[int, list[NDArray[np.int64]]], rooms: list[int], room: int, bins: NDArray[np.int64]) -> None:
    """Put bins back among those that have this much room."""
    if room and len(bins):
        if room not in open_bins:
            open_bins[room] = []
            insort(rooms, room)
        open_bins[room].append(bins)
