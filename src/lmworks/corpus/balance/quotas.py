"""Whole numbers in proportion to weights, within caps."""

import math
from collections.abc import Sequence
from fractions import Fraction


def temperature_weights(sizes: Sequence[int], temperature: float) -> list[Fraction]:
    """p ∝ n^(1/T), relative to the largest source: T = 1 follows the sizes, T → ∞ makes all sources equal.

    Fractions, as what a float cannot hold any more is still wanted of a source when the larger ones are capped.
    """
    exponents = [math.log2(size / max(sizes)) / temperature for size in sizes]
    return [Fraction(2.0 ** (x - math.floor(x))) * Fraction(2) ** math.floor(x) for x in exponents]


def quotas(weights: Sequence[float | Fraction], caps: Sequence[int | None], total: int) -> list[int]:
    """How many of `total` sequences each source gives: in proportion to the weights, but never more than its cap.

    Water-filling: with q_i = min(cap_i, λ·w_i), the level λ at which the quotas sum to the total is found source by
    source, in the order in which they reach their caps. Whole numbers by largest remainder (earlier sources first). As
    the quotas hold for the whole run, a mixture is the same at its end as at its beginning: no source runs dry.

    Weights are positive. ValueError when the caps together allow fewer than `total`.
    """
    most = math.inf if None in caps else sum(cap for cap in caps if cap is not None)
    if most < total:
        raise ValueError(
            f"the run asks for {total:,} sequences, the sources give {most:,} within their caps: raise max_epochs, add "
            "a source, or ask for fewer steps"
        )
    exact = [Fraction(weight) for weight in weights]
    found = [Fraction(0)] * len(exact)
    left, mass = Fraction(total), sum(exact, Fraction(0))
    capped = [(cap / exact[source], source, cap) for source, cap in enumerate(caps) if cap is not None]
    free = set(range(len(exact)))
    for level, source, cap in sorted(capped):
        if left < level * mass:
            break
        found[source] = Fraction(cap)
        left, mass = left - cap, mass - exact[source]
        free.discard(source)
    for source in free:
        found[source] = left * exact[source] / mass
    whole = [math.floor(quota) for quota in found]
    by_remainder = sorted(range(len(found)), key=lambda source: (whole[source] - found[source], source))
    for source in by_remainder[: total - sum(whole)]:
        whole[source] += 1
    return whole
