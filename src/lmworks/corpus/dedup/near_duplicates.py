"""Near duplicates of documents, from their texts to similar pairs and to buckets too large to compare all pairs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate, groupby

import numpy as np
from numpy.typing import NDArray

from lmworks.corpus.dedup.hashes import PERMUTATIONS, WORDS, HashRows
from lmworks.corpus.dedup.library import hash_words, shingle_sets, signatures
from lmworks.corpus.dedup.match_tables import Pairs
from lmworks.corpus.dedup.minhash import NO_KEY, band_keys, candidate_pairs, choose_bands, verify

BATCH = 4_000_000  # characters that are hashed at once: large enough that calls cost nothing, small enough for memory
BUCKET_LIMIT = 64  # documents of the largest bucket whose pairs are all compared


@dataclass(frozen=True, slots=True)
class NearDuplicatesConfig:
    """Documents that are alike.

    threshold     The least Jaccard similarity of their shingles.
    words         Of a shingle.
    permutations  Places of a signature: more of them find pairs near the threshold more surely.
    """

    threshold: float = 0.8
    words: int = WORDS
    permutations: int = PERMUTATIONS

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold must lie between 0 and 1, got {self.threshold:g}: exact duplicates have 1")
        if self.words < 1:
            raise ValueError(f"words must be positive, got {self.words}")
        if not 1 <= self.permutations <= 1024:
            raise ValueError(f"permutations must lie between 1 and 1,024, got {self.permutations}")


@dataclass(frozen=True, slots=True, eq=False)
class Keys:
    """Keys by which n texts are compared.

    bands  (n, bands) uint64: the keys of the bands, by which candidates are found
    words  (n, 2) uint64: a digest of its words in their order, by which those with the same words are one
    """

    bands: NDArray[np.uint64]
    words: NDArray[np.uint64]


def batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Lists of neighbouring texts, each of about `BATCH` characters."""
    ends = accumulate(len(text) for text in texts)
    for _, batch in groupby(zip(texts, ends, strict=True), key=lambda pair: pair[1] // BATCH):
        yield [text for text, _ in batch]


def keys_of_texts(texts: Sequence[str], config: NearDuplicatesConfig) -> Keys:
    """The keys of texts. They depend on nothing else, so that parts of a corpus may have theirs made anywhere."""
    bands = choose_bands(config.threshold, config.permutations)
    found = [np.empty((0, bands.bands), np.uint64)]
    digests = [np.empty((0, 2), np.uint64)]
    for batch in batches(texts):
        rows = hash_words(batch)
        found.append(band_keys(signatures(rows, config.words, config.permutations), bands))
        joined = b"".join(blake2b(rows[row].tobytes(), digest_size=16).digest() for row in range(len(rows)))
        digests.append(np.frombuffer(joined, "<u8").astype(np.uint64).reshape(-1, 2))
    return Keys(np.concatenate(found), np.concatenate(digests))


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """Pairs and large buckets that a search found.

    pairs          the documents that are similar enough, of those that were compared, in their order; of documents with
                   the same words all are paired with the best of them, and that one alone with others
    large_buckets  documents, (n,) int64 each and no two with the same words, whose bucket is too large to compare
                   all pairs
    candidates     how many pairs were compared
    """

    pairs: Pairs
    large_buckets: tuple[NDArray[np.int64], ...]
    candidates: int


def compare(texts: Sequence[str], order: NDArray[np.int64], keys: Keys, config: NearDuplicatesConfig) -> Compared:
    """Pairs of similar texts. `order` has the number of each, the best first; a text is read when it is asked for.

    What is found depends on the texts and on who is better, not on their numbers. Nothing grows by the square of how
    many have the same words, or share a bucket. Texts without a word are similar to none.
    """
    spelled = (keys.bands[order] != NO_KEY).any(axis=1)
    order = order[spelled]
    _, places, inverse = np.unique(keys.words[order], axis=0, return_index=True, return_inverse=True)
    first = order[places[inverse.ravel()]]  # of each document the best with the same words
    equal = np.sort(np.stack((first, order), axis=1)[first != order], axis=1)
    distinct = order[first == order]
    bands = keys.bands[distinct]

    def sets_of(documents: NDArray[np.int64]) -> HashRows:
        return shingle_sets((texts[int(number)] for number in distinct[documents].tolist()), config.words)

    large_buckets: dict[bytes, NDArray[np.int64]] = {}
    found, candidates = verify(candidate_pairs(bands, BUCKET_LIMIT, large_buckets), sets_of, config.threshold)
    alike = np.sort(distinct[np.stack((found.first, found.second), axis=1)], axis=1)
    first, second = np.concatenate((alike, equal)).T
    similarity = np.concatenate((found.similarity, np.ones(len(equal))))
    by_number = np.lexsort((second, first))
    members = tuple(distinct[each] for each in large_buckets.values())
    return Compared(Pairs(first[by_number], second[by_number], similarity[by_number]), members, candidates)
