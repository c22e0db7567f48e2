"""Comparing two texts token by token instead of vector by vector."""

import numpy as np


def late_interaction(query: np.ndarray, passage: np.ndarray) -> float:
    """MaxSim of a query and a passage: the mean over query tokens of the highest cosine with a passage token.

    `query` (query tokens, width) and `passage` (passage tokens, width) are rows of length 1, as
    `TextEncoder.encode_tokens` gives them. This is MaxSim of ColBERT (Khattab & Zaharia, 2020, section 3.3), divided by
    the length of the query so that queries compare. 0 when either is empty.
    """
    if not len(query) or not len(passage):
        return 0.0
    return float((query @ passage.T).max(axis=1).mean())
