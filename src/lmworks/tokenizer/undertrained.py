"""Which rows of an embedding look as if they had never been trained (Land & Bartolo 2024, section 3.2).

Rows of tokens that no text becomes are moved by weight decay and by the softmax's push alone, all in the same way. A
token that text reaches, but whose row resembles theirs, has hardly been seen in training, and a model that reads it
does anything. The resemblance points at candidates; only prompting with each proves one.
"""

from dataclasses import dataclass

import numpy as np

from lmworks.tokenizer.reachable_tokens import Reachability

SHARE = 0.02  # the paper prompts with the lowest 2 % of the tokens


@dataclass(frozen=True)
class Undertrained:
    """indicator   (ids,) float64; the lower, the more like a row that was never trained. NaN for an id without a row.
    threshold     candidates are below: the lowest `SHARE` of the tokens that text reaches.
    candidates    ids, the most suspicious first.
    method        what the indicator is, in words.
    """

    indicator: np.ndarray
    threshold: float
    candidates: tuple[int, ...]
    method: str


def undertrained(embedding: np.ndarray, reach: Reachability, tied: bool) -> Undertrained:
    """Judges the tokens that text reaches by their rows in `embedding` (rows, width), floating point.

    `tied`: the same matrix makes the logits; then rows that were never a target all point away from the hidden states,
    and the indicator is the cosine distance to the mean of the unused rows. Otherwise it is the Euclidean norm of the
    input row, which weight decay makes small, and no gradient large.

    ValueError where `tied` and no row is known to be unused: no unreachable token, no gap, no padding.
    """
    ids = len(reach.kinds)
    unused = unused_rows(reach, len(embedding))
    if tied:
        if not len(unused):
            raise ValueError(
                "no token is known to be unused: every token is reached by some text, and no row is padding"
            )
        reference = embedding[unused].astype(np.float64).mean(axis=0)
        values, method = _cosine_distances(embedding, reference), "cosine distance to the mean of the unused rows"
    else:
        values, method = _norms(embedding), "Euclidean norm of the row"
    indicator = np.full(ids, np.nan)
    indicator[: min(ids, len(values))] = values[:ids]
    judged = np.intersect1d(reach.ids("text", "in context"), np.flatnonzero(np.isfinite(indicator)))
    threshold = float(np.quantile(indicator[judged], SHARE))
    below = judged[indicator[judged] < threshold]
    ordered = below[np.argsort(indicator[below], kind="stable")]
    return Undertrained(indicator, threshold, tuple(ordered.tolist()), method)


def unused_rows(reach: Reachability, rows: int) -> np.ndarray:
    """Rows that training cannot have used: of unreachable tokens, of ids without a token, and beyond the last id."""
    known = reach.ids("unreachable", "no token")
    return np.concatenate([known[known < rows], np.arange(len(reach.kinds), rows)]).astype(np.int64)


def _norms(embedding: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("ij,ij->i", embedding, embedding, dtype=np.float64))  # without a copy of the whole


def _cosine_distances(embedding: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """1 - cosine of each row and `reference`; 1 for a row of zeros."""
    products = np.einsum("ij,j->i", embedding, reference, dtype=np.float64)
    lengths = _norms(embedding) * np.linalg.norm(reference)
    return 1 - np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
