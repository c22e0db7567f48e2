"""Drawing a token from each row of scores: temperature, top-k, typical, top-p, min-p, one draw.

The definition is `drawing_reference.draw_token`, which also runs where there is no compiled library. The kernel draws
from several rows on several threads; a row's token depends on nothing but the row and its `Draw`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lmworks.kernels import c_structures, library, token_sampling_reference
from lmworks.kernels.library import Library


class Draw(NamedTuple):
    """How the token of a row is drawn; the truncations apply in this order, each to what the ones before have left.

    draw          in [0, 1): the token is the first at which the cumulated probability passes it.
    temperature   above 0; divides the scores.
    top_k         the k largest; 0: off.
    typical_p     those whose information is nearest to the entropy, until their probability reaches it; 1: off.
    top_p         the fewest whose probability reaches it; 1: off.
    min_p         those with at least this part of the largest probability; 0: off.

    Of equal tokens at the edge of a truncation, the first ones are left.
    """

    draw: float
    temperature: float = 1.0
    top_k: int = 0
    typical_p: float = 1.0
    top_p: float = 1.0
    min_p: float = 0.0


def draw_tokens(
    rows: Sequence[np.ndarray], draws: Sequence[Draw], kernels: Library | None = None
) -> list[tuple[int, float]]:
    """For each row its token, and the natural logarithm of the probability that it had.

    A row is (tokens,) float32, its largest score finite; what must not be drawn is -inf. Where everything is, it is
    (0, -inf). Rows may have different lengths. `kernels` picks a library other than the default.

    ValueError for a row that is not contiguous float32, or empty.
    """
    if not rows:
        return []
    chosen = kernels or library.load()
    if chosen is None:
        return [token_sampling_reference.draw_token(row, draw) for row, draw in zip(rows, draws, strict=True)]
    steps = (c_structures.Draw * len(rows))()
    for step, row, draw in zip(steps, rows, draws, strict=True):
        if row.dtype != np.float32 or row.ndim != 1 or not len(row) or not row.flags.c_contiguous:
            raise ValueError(f"a row of scores is contiguous (tokens,) float32, not {row.shape} {row.dtype}")
        step.scores, step.count = row.__array_interface__["data"][0], len(row)
        step.draw, step.temperature, step.top_k, step.typical_p, step.top_p, step.min_p = draw
    chosen.call("draw", steps, len(rows))
    return [(step.token, step.log_probability) for step in steps]
