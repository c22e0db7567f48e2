"""The cosine of question and chunk: exact over all vectors, or as near as the store of the index finds them."""

import numpy as np

from lmworks.retrieve.hits import Hits, ranking
from lmworks.retrieve.index import EVERYTHING, Filters, Index
from lmworks.retrieve.vector_store import nearest


def dense(index: Index, query: np.ndarray, k: int, filters: Filters = EVERYTHING) -> Hits:
    """The `k` chunks of highest cosine with the query vector, (width,) float32 of length 1.

    Filters apply before the choice, so that `k` chunks are returned whenever as many pass. Chunks of equal score are
    ordered by uri and place. Scores: `dense`, the cosine, and `dense_rank` from 1.
    """
    passing = index.passing(filters)
    allowed = None if passing is None else passing.positions
    positions, cosines = nearest(len(index.keys), index.cosines, query, k, allowed, index.store)
    return ranking("dense", index.keys[positions].tolist(), cosines.tolist())
