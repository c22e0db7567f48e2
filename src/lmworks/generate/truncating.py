"""Draws from a part of the vocabulary: top-k, typical, top-p, min-p, each inside what the ones before have left.

Sorting a vocabulary takes longer than anything else in a sampler. So a row's tokens are sought among a few candidates,
the first by probability or by typicality; only a row whose tokens do not fit into them is tried again with more, and
at last with all.
"""

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

from lmworks.generate.exponentials import block_sums, draw_from_softmax, exponentials, in_blocks
from lmworks.generate.protocol import SamplingParameters
from lmworks.generate.selecting import largest

FIRST_CANDIDATES = 256  # a nucleus rarely holds more
_WIDENING = 8


class Search(NamedTuple):
    """Among which candidates a row's tokens are sought. Rows that are searched alike can be drawn together."""

    width: int
    limited: bool  # by top-k: nothing beyond the candidates counts
    typical: bool


def first_search(parameter: SamplingParameters, vocabulary: int) -> Search | None:
    """Where to begin with these parameters; None when they cut nothing off from a vocabulary of this size."""
    limited = 0 < parameter.top_k < vocabulary
    if not limited and parameter.typical_p == 1 and parameter.top_p == 1 and parameter.min_p == 0:
        return None
    # powers of two, so that rows with similar k are searched alike
    width = 1 << (parameter.top_k - 1).bit_length() if limited else FIRST_CANDIDATES
    return Search(min(width, vocabulary), limited, parameter.typical_p < 1)


def draw_truncated(
    values: Tensor, maxima: Tensor, parameters: Sequence[SamplingParameters], draws: Tensor, search: Search
) -> tuple[Tensor, Tensor]:
    """One token of each row: ids and log-probabilities under the truncated distribution (float32), both (rows,).

    values (rows, vocabulary) float32 are the logits over the temperature, maxima (rows, 1) their maxima, draws (rows,)
    float64 lie in [0, 1), and search is the first search of all these parameters.
    """
    candidates, left, complete = _truncate(values, maxima, parameters, search)
    ranks, log_probabilities = draw_from_softmax(left, left[:, :1], draws)
    ids = candidates.gather(1, ranks[:, None]).squeeze(1)
    again = [row for row, done in enumerate(complete.tolist()) if not done]
    if again and search.width < values.shape[1]:
        wider = _wider(search, values.shape[1])
        chosen = [parameters[row] for row in again]
        ids[again], log_probabilities[again] = draw_truncated(values[again], maxima[again], chosen, draws[again], wider)
    return ids, log_probabilities


def _wider(search: Search, vocabulary: int) -> Search:
    """More candidates; all of them where selecting so many takes about as long as sorting."""
    width = search.width * _WIDENING
    return search._replace(width=width if 4 * width <= vocabulary else vocabulary)


def _truncate(
    values: Tensor, maxima: Tensor, parameters: Sequence[SamplingParameters], search: Search
) -> tuple[Tensor, Tensor, Tensor]:
    """Apply the truncations to values (rows, vocabulary) with their maxima (rows, 1).

    Returns candidates in falling order, their ids and their values, both (rows, width), -inf for those that are cut off
    (never the first), and whether all that is left is among them (rows,) bool.
    """
    top_k, typical_p, top_p, min_p = (
        torch.tensor(numbers, dtype=torch.float64, device=values.device)[:, None]
        for numbers in zip(*((p.top_k, p.typical_p, p.top_p, p.min_p) for p in parameters), strict=True)
    )
    if search.typical and not search.limited:
        left, ids, complete = _typical(values, maxima, typical_p, search.width)
        return ids, _nucleus(left, _mass(left, left[:, :1]), top_p, min_p), complete
    left, ids = largest(values, search.width)
    if not search.limited:
        mass = _mass(values, maxima) if any(p.top_p < 1 for p in parameters) else torch.ones_like(top_p)
        left = _nucleus(left, mass, top_p, min_p)
        return ids, left, left[:, -1] == -inf  # where the last candidate is cut off, so is all that comes after it
    left = left.masked_fill(torch.arange(search.width, device=values.device) >= top_k, -inf)
    if search.typical:
        left, ranks, _ = _typical(left, maxima, typical_p, search.width)
        ids = ids.gather(1, ranks)
    return ids, _nucleus(left, _mass(left, left[:, :1]), top_p, min_p), torch.ones_like(ids[:, 0], dtype=torch.bool)


def _typical(values: Tensor, maxima: Tensor, typical_p: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The tokens whose information is nearest to the entropy (Meister et al. 2023, section 4, equation 7).

    They are taken in the order of that distance until their probability reaches typical_p (rows, 1). With x a value
    less the maximum and Z the mass in units of the largest weight, a token's information is ln Z - x, the entropy is
    ln Z - E[x], and the distance |x - E[x]|.

    Returns the `width` nearest in falling order of their values: values (rows, width) with -inf for those that are too
    far away, their places in the row (rows, width), and whether that was so for the last of them (rows,) bool.
    """
    shifted = values - maxima
    weights = exponentials(values, maxima)
    total = block_sums(weights)[:, -1:]
    products = torch.where(weights > 0, weights * in_blocks(shifted, filling=0.0), 0.0)  # else 0 · -inf is NaN
    mean = block_sums(products)[:, -1:] / total
    _, places = largest(-(shifted - mean.float()).abs(), width)
    left = _cut(values.gather(1, places), maxima, typical_p * total)
    complete = left[:, -1] == -inf
    left, order = largest(left, width)
    return left, places.gather(1, order), complete


def _nucleus(values: Tensor, mass: Tensor, top_p: Tensor, min_p: Tensor) -> Tensor:
    """Cut off what top-p and min-p exclude from values (rows, width) in falling order; the parameters are (rows, 1).

    top-p leaves the fewest tokens whose probability reaches it (Holtzman et al. 2020, section 3.1), a part of the mass
    (rows, 1) in units of the largest weight; min-p those that have at least that part of the largest probability
    (Nguyen et al. 2024, section 3).
    """
    largest = values[:, :1]
    left = _cut(values, largest, torch.where(top_p < 1, top_p * mass, inf))  # 1 is off, whatever the sums round to
    return left.masked_fill(values - largest < min_p.log().float(), -inf)


def _cut(values: Tensor, maxima: Tensor, mass: Tensor) -> Tensor:
    """Keep of values (rows, width) the first ones, until the sum of exp(values - maxima) reaches the mass (rows, 1)."""
    weights = (values - maxima).exp()
    before = weights.cumsum(-1, dtype=torch.float64) - weights
    return values.masked_fill(before >= mass, -inf)


def _mass(values: Tensor, maxima: Tensor) -> Tensor:
    """Σ exp(values - maxima) of each row: (rows, n), (rows, 1) -> (rows, 1) float64."""
    return block_sums(exponentials(values, maxima))[:, -1:]
