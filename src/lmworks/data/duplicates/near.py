"""Near duplicates of documents, from their texts to the ones that stay: signatures, candidates, similarity, stars."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lmworks.data.duplicates.clusters import Standing, Stars, by_priority, star_clusters
from lmworks.data.duplicates.config import NearDuplicatesConfig
from lmworks.data.duplicates.lsh import band_keys, candidate_pairs, choose_bands, crowds
from lmworks.data.duplicates.minhash import sign
from lmworks.data.duplicates.rows import HashRows
from lmworks.data.duplicates.shingles import batches, hash_words, shingle_sets
from lmworks.data.duplicates.verifying import Verified, jaccard, verify

_REMEMBERED = 4096  # documents of crowds whose shingles stay in memory


def keys_of_texts(texts: Iterable[str], config: NearDuplicatesConfig) -> NDArray[np.uint64]:
    """(texts, bands) uint64: the keys of the bands, by which candidates are found. A text's keys depend on nothing
    else, so that parts of a corpus may have theirs made anywhere, and be put together."""
    bands = choose_bands(config.threshold, config.permutations, config.false_positive_weight)
    found = [
        band_keys(sign(hash_words(batch, config.compatibility), config.words, config.permutations, config.seed), bands)
        for batch in batches(texts)
    ]
    return np.concatenate([np.empty((0, bands.bands), np.uint64), *found])


@dataclass(frozen=True, slots=True, eq=False)
class NearDuplicates:
    """What was found among n documents, by their numbers.

    stars  Which documents stay, and the twin of each of the others.
    pairs  Every two documents that were compared and are similar enough.
    """

    stars: Stars
    pairs: Verified


def near_duplicates(
    texts: Sequence[str],
    standings: Sequence[Standing],
    config: NearDuplicatesConfig,
    keys: NDArray[np.uint64] | None = None,
) -> NearDuplicates:
    """Which documents stay, and why the others do not.

    `texts` may read a text each time that it is asked for a number. `keys` are those of `keys_of_texts`, where they
    were made before. Which documents stay depends on texts and standings alone, not on the order of the documents.
    Texts without a word stay. ValueError where standings or keys are not as many as texts, or an id is there twice.
    """
    if len(standings) != len(texts) or (keys is not None and len(keys) != len(texts)):
        raise ValueError(f"{len(texts)} texts need as many standings and keys")
    order = by_priority(standings)  # from here on, documents are numbered by it
    ranked = (keys_of_texts(texts, config) if keys is None else keys)[order]

    def sets_of(documents: NDArray[np.int64]) -> HashRows:
        return shingle_sets((texts[number] for number in order[documents].tolist()), config.words, config.compatibility)

    @lru_cache(_REMEMBERED)
    def set_of(document: int) -> NDArray[np.uint64]:
        return sets_of(np.array([document])).values

    def similarity(document: int, other: int) -> float:
        return jaccard(set_of(document), set_of(other))

    verified = verify(candidate_pairs(ranked, config.crowd), sets_of, config.threshold)
    stars = star_clusters(len(texts), verified, crowds(ranked, config.crowd), similarity, config.threshold)
    kept, values = np.empty(len(texts), np.int64), np.empty(len(texts), np.float64)
    kept[order], values[order] = order[stars.kept], stars.similarity
    mapped = Stars(kept, values, stars.uncompared, stars.candidates)
    return NearDuplicates(mapped, _all_pairs(mapped, order[verified.pairs], verified))


def _all_pairs(stars: Stars, pairs: NDArray[np.int64], verified: Verified) -> Verified:
    """The verified pairs, as the caller numbers documents, and those of documents of crowds with their twins."""
    removed = stars.removed
    joined = np.sort(np.concatenate((pairs, np.stack((stars.kept[removed], removed), axis=1))), axis=1)
    similarity = np.concatenate((verified.similarity, stars.similarity[removed]))
    joined, places = np.unique(joined, axis=0, return_index=True)
    return Verified(joined, similarity[places], verified.candidates)
