"""Near duplicates of documents, from their texts to similar pairs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate, groupby

import numpy as np
from numpy.typing import NDArray

from lmworks.config import positive, within
from lmworks.corpus.dedup.hashes import PERMUTATIONS, WORDS, HashRows
from lmworks.corpus.dedup.library import hash_words, shingle_sets, signatures
from lmworks.corpus.dedup.match_tables import Pairs
from lmworks.corpus.dedup.minhash import NO_KEY, band_keys, candidate_pairs, choose_bands, star_pairs, verify

BATCH = 4_000_000  # characters that are hashed at once: large enough that calls cost nothing, small enough for memory
BUCKET_LIMIT = 64  # documents of the largest bucket of which all pairs are compared


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
        positive(words=self.words)
        within(1, 1024, permutations=self.permutations)


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
    """Pairs that a search found.

    pairs       the documents that are similar enough, of those that were compared, in their order; of documents with
                the same words all are paired with the best of them, and that one alone with others
    candidates  how many pairs were proposed, without those of large buckets
    uncompared  documents of large buckets that were not compared with all others there
    """

    pairs: Pairs
    candidates: int
    uncompared: int


def compare(texts: Sequence[str], order: NDArray[np.int64], keys: Keys, config: NearDuplicatesConfig) -> Compared:
    """Pairs of similar texts. `order` has the number of each, the best first; a text is read when it is asked for.

    What is found depends on the texts and on who is better, not on their numbers. Nothing grows by the square of how
    many have the same words, or share a bucket. Texts without a word are similar to none.
    """
    spelled = (keys.bands[order] != NO_KEY).any(axis=1)
    order = order[spelled]
    _, places, inverse = np.unique(keys.words[order], axis=0, return_index=True, return_inverse=True)
    first = order[places[inverse.ravel()]]  # of each document the best with the same words
    equal = Pairs(first[first != order], order[first != order], np.ones(int((first != order).sum())))
    distinct = order[first == order]

    def sets_of(documents: NDArray[np.int64]) -> HashRows:
        return shingle_sets((texts[int(number)] for number in distinct[documents].tolist()), config.words)

    large_buckets: dict[bytes, NDArray[np.int64]] = {}
    candidates = candidate_pairs(keys.bands[distinct], BUCKET_LIMIT, large_buckets)
    found, number = verify(candidates, sets_of, config.threshold)
    stars = [star_pairs(members, sets_of, config.threshold) for members in large_buckets.values()]
    alike = [found, *(pairs for pairs, _ in stars)]
    ends = [distinct[np.concatenate([getattr(pairs, end) for pairs in alike])] for end in ("first", "second")]
    both = np.stack([np.concatenate((ends[0], equal.first)), np.concatenate((ends[1], equal.second))], axis=1)
    similarity = np.concatenate([*(pairs.similarity for pairs in alike), equal.similarity])
    both, place = np.unique(np.sort(both, axis=1), axis=0, return_index=True)
    return Compared(Pairs(both[:, 0], both[:, 1], similarity[place]), number, sum(count for _, count in stars))
