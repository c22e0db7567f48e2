"""Confidence sequences: intervals that hold at every look at once, so that watching an experiment costs no error.

An interval of a fixed n is looked at once; who looks each day at a 95 % one sees it miss far more often. A confidence
sequence C_1, C_2, ... has P(some C_t misses the truth) <= alpha, whenever one stops.
"""

import numpy as np

_ENOUGH = 100  # units of each arm from which the asymptotic sequence is used


def mixture_parameter(planned: float, alpha: float) -> float:
    """rho^2 of the normal mixture that makes the sequence narrowest at `planned` units (Waudby-Smith et al. 2024,
    "Time-uniform central limit theory and asymptotic confidence sequences", appendix B.2)."""
    return float((-(alpha**2) - 2 * np.log(alpha) + np.log(1 - 2 * np.log(alpha) - alpha**2)) / planned)


def asymptotic_width(units: "float | np.ndarray", planned: float, alpha: float) -> np.ndarray:
    """Half the width of the asymptotic sequence in standard errors of the estimate, after so many units in all.

    Waudby-Smith et al. 2024, theorem 2.2: sqrt((t rho^2 + 1) / (t rho^2) ln((t rho^2 + 1) / alpha^2)), for variances
    that are estimated. A fixed n has 1.96 in its place.
    """
    scaled = np.asarray(units, dtype=np.float64) * mixture_parameter(planned, alpha)
    return np.sqrt((scaled + 1) / scaled * np.log((scaled + 1) / alpha**2))


def betting_sequence(values: np.ndarray, alpha: float, grid: int = 200) -> np.ndarray:
    """Confidence sequence of the mean of values in [0, 1], (n,) -> (n, 2): valid for any n, however small.

    Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting", section 4.3: the hedged
    capital of bets for and against each candidate mean, with predictable plug-in bets truncated at half of what would
    risk ruin. A mean leaves once its capital reached 1 / alpha.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError("betting needs values in [0, 1]")
    counts = np.arange(1, len(values) + 1)
    mean = (0.5 + np.cumsum(values)) / (counts + 1)
    variance = (0.25 + np.cumsum((values - mean) ** 2)) / (counts + 1)
    before = np.concatenate([[0.25], variance[:-1]])  # what was known before each value
    bets = np.sqrt(2 * np.log(2 / alpha) / (before * counts * np.log(counts + 1)))[:, None]  # (n, 1)
    means = np.linspace(0, 1, grid + 1)  # (means,)
    with np.errstate(divide="ignore"):
        up, down = np.minimum(bets, 0.5 / means), np.minimum(bets, 0.5 / (1 - means))  # (n, means)
    gap = values[:, None] - means
    capital = np.maximum(*(np.cumsum(np.log1p(won), axis=0) for won in (up * gap, -down * gap))) - np.log(2)
    inside = np.maximum.accumulate(capital, axis=0) < -np.log(alpha)
    step = 1 / grid  # a mean between two of the grid may still be in
    low = np.where(inside.any(axis=1), means[inside.argmax(axis=1)] - step, mean)
    high = np.where(inside.any(axis=1), means[grid - inside[:, ::-1].argmax(axis=1)] + step, mean)
    return np.stack([np.maximum(low, 0), np.minimum(high, 1)], axis=1)


def difference_sequence(
    first: np.ndarray, second: np.ndarray, looks: np.ndarray, planned: float, alpha: float, *, bounded: bool = False
) -> np.ndarray:
    """Confidence sequence of mean(second) - mean(first), at looks (k, 2) of how many units each arm had then: (k, 3)
    of estimate, low and high; NaN where there is too little to say anything.

    Until each arm has 100 units, values in [0, 1] (`bounded`) use betting, for which a fifth of alpha is set apart, and
    others have no interval. The variance is that of all units at the look.
    """
    looks = np.asarray(looks, dtype=np.intp)
    sums = [np.stack([np.cumsum(arm), np.cumsum(arm**2)]) for arm in (first, second)]
    estimate, variance = np.zeros(len(looks)), np.zeros(len(looks))
    with np.errstate(divide="ignore", invalid="ignore"):
        for (total, squares), count, sign in zip(sums, looks.T, (-1, 1), strict=True):
            index = np.maximum(count - 1, 0)
            mean = np.where(count > 0, total[index] if len(total) else np.nan, np.nan) / count
            spread = (squares[index] / count - mean**2 if len(total) else np.nan) * count / (count - 1)
            # Where no value differs yet, the next might: as if one more lay 1 apart (as Wilson's interval has it).
            spread = np.where(bounded | (spread <= 0), np.maximum(spread, 1 / (count + 1)), spread)
            estimate, variance = estimate + sign * mean, variance + spread / count
        late = looks.min(axis=1) >= _ENOUGH
        half = np.sqrt(variance) * asymptotic_width(looks.sum(axis=1), planned, alpha * (0.8 if bounded else 1.0))
    low, high = np.where(late, estimate - half, np.nan), np.where(late, estimate + half, np.nan)
    if bounded and (early := ~late & (looks.min(axis=1) > 0)).any():
        of_first, of_second = (
            betting_sequence(arm[: looks[early, index].max()], alpha / 10)[looks[early, index] - 1]
            for index, arm in enumerate((first, second))
        )
        low[early], high[early] = of_second[:, 0] - of_first[:, 1], of_second[:, 1] - of_first[:, 0]
    return np.stack([estimate, low, high], axis=1)
