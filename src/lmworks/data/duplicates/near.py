"""Near duplicates of documents, from their texts to the ones that stay: signatures, candidates, similarity, stars."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from lmworks.data.duplicates.alike import alike, similarity_by_texts
from lmworks.data.duplicates.clusters import Standing, Stars, by_priority
from lmworks.data.duplicates.config import NearDuplicatesConfig
from lmworks.data.duplicates.exact import first_equal
from lmworks.data.duplicates.lsh import NO_KEY, band_keys, candidate_pairs, choose_bands, crowds
from lmworks.data.duplicates.minhash import sign
from lmworks.data.duplicates.rows import HashRows
from lmworks.data.duplicates.shingles import batches, hash_words, shingle_sets
from lmworks.data.duplicates.tables import Crowds, Pairs
from lmworks.data.duplicates.verifying import Verified, verify


@dataclass(frozen=True, slots=True, eq=False)
class Keys:
    """What n texts are compared by.

    bands  (n, bands) uint64: the keys of the bands, by which candidates are found
    words  (n, 2) uint64: a digest of its words in their order, by which those with the same words are one
    """

    bands: NDArray[np.uint64]
    words: NDArray[np.uint64]


def keys_of_texts(texts: Iterable[str], config: NearDuplicatesConfig) -> Keys:
    """A text's keys depend on nothing else, so that parts of a corpus may have theirs made anywhere, and be joined."""
    bands = choose_bands(config.threshold, config.permutations, config.false_positive_weight)
    found = [np.empty((0, bands.bands), np.uint64)]
    digests = [np.empty((0, 2), np.uint64)]
    for batch in batches(texts):
        rows = hash_words(batch, config.compatibility)
        found.append(band_keys(sign(rows, config.words, config.permutations, config.seed), bands))
        joined = b"".join(blake2b(rows[row].tobytes(), digest_size=16).digest() for row in range(len(rows)))
        digests.append(np.frombuffer(joined, "<u8").astype(np.uint64).reshape(-1, 2))
    return Keys(np.concatenate(found), np.concatenate(digests))


def joined_keys(parts: Sequence[Keys]) -> Keys:
    """Those of the parts of a corpus as one; at least one part."""
    return Keys(np.concatenate([part.bands for part in parts]), np.concatenate([part.words for part in parts]))


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """pairs   the documents that are similar enough, of those that were compared; of documents with the same words all
            are paired with the best of them, and that one alone with others
    crowds  documents, (n,) int64 each and no two with the same words, that share too large a bucket to be compared
    """

    pairs: Verified
    crowds: tuple[NDArray[np.int64], ...]


def compare(texts: Sequence[str], order: NDArray[np.int64], keys: Keys, config: NearDuplicatesConfig) -> Compared:
    """Which texts are similar. `order` has the number of each, the best first.

    What is found depends on the texts and on who is better, not on their numbers. Nothing grows by the square of how
    many have the same words, or share a bucket. Texts without a word are similar to none.
    """
    spelled = (keys.bands[order] != NO_KEY).any(axis=1)
    order = order[spelled]
    first = order[first_equal(keys.words[order])]
    equal = np.sort(np.stack((first, order), axis=1)[first != order], axis=1)
    distinct = order[first == order]
    bands = keys.bands[distinct]

    def sets_of(documents: NDArray[np.int64]) -> HashRows:
        chosen = (texts[int(number)] for number in distinct[documents].tolist())
        return shingle_sets(chosen, config.words, config.compatibility)

    verified = verify(candidate_pairs(bands, config.crowd), sets_of, config.threshold)
    pairs = np.concatenate((np.sort(distinct[verified.pairs], axis=1), equal))
    similarity = np.concatenate((verified.similarity, np.ones(len(equal))))
    by_number = np.lexsort((pairs[:, 1], pairs[:, 0]))
    found = Verified(pairs[by_number], similarity[by_number], verified.candidates)
    return Compared(found, tuple(distinct[each] for each in crowds(bands, config.crowd)))


@dataclass(frozen=True, slots=True, eq=False)
class NearDuplicates:
    """What was found among n documents, by their numbers.

    stars  Which documents stay, and the twin of each of the others.
    pairs  Every two documents that were compared and are similar enough.
    """

    stars: Stars
    pairs: Verified


def near_duplicates(
    texts: Sequence[str], standings: Sequence[Standing], config: NearDuplicatesConfig, keys: Keys | None = None
) -> NearDuplicates:
    """Which documents stay, and why the others do not.

    `texts` may read a text each time that it is asked for a number. `keys` are those of `keys_of_texts`, where they
    were made before. Which documents stay depends on texts and standings alone, not on the order of the documents.
    Texts without a word stay. ValueError where standings or keys are not as many as texts, or an id is there twice.
    """
    if len(standings) != len(texts) or (keys is not None and len(keys.bands) != len(texts)):
        raise ValueError(f"{len(texts)} texts need as many standings and keys")
    order = by_priority(standings)
    compared = compare(texts, order, keys_of_texts(texts, config) if keys is None else keys, config)
    rank = np.empty(len(texts), np.int64)
    rank[order] = np.arange(len(texts))
    pairs = Pairs(compared.pairs.pairs[:, 0], compared.pairs.pairs[:, 1], compared.pairs.similarity)
    members = Crowds(compared.crowds, config.threshold, config.words, config.compatibility)
    there = np.ones(len(texts), bool)
    twins = alike(pairs, members, config.threshold, rank, there, similarity_by_texts(texts, members))
    kept, values = np.arange(len(texts)), np.ones(len(texts))
    gone = np.array(list(twins.twin), np.int64)
    kept[gone], values[gone] = list(twins.twin.values()), list(twins.similarity.values())
    stars = Stars(kept, values, twins.uncompared, compared.pairs.candidates)
    return NearDuplicates(stars, _all_pairs(stars, compared.pairs))


def _all_pairs(stars: Stars, verified: Verified) -> Verified:
    """The verified pairs, and those of documents of crowds with their twins."""
    removed = stars.removed
    joined = np.sort(np.concatenate((verified.pairs, np.stack((stars.kept[removed], removed), axis=1))), axis=1)
    similarity = np.concatenate((verified.similarity, stars.similarity[removed]))
    joined, places = np.unique(joined, axis=0, return_index=True)
    return Verified(joined, similarity[places], verified.candidates)
