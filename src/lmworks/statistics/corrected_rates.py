"""A rate that was counted by a detector which errs, corrected for its measured sensitivity and specificity."""

from lmworks.records import Score, Scored, Unscored
from lmworks.statistics.scores import sign

Z = 1.959964  # of 95 %


def rogan_gladen(hits: int, n: int, right: tuple[int, int], rejected: tuple[int, int], signature: object) -> Score:
    """The true rate behind `hits` of n: (rate + Sp - 1) / (Se + Sp - 1) (Rogan & Gladen 1978), in [0, 1].

    `right` are (detected, positives) and `rejected` (not detected, negatives) of the detector's calibration. The
    interval counts the uncertainty of all three (Lang & Reiczigel 2014, section 2). Unscored for no items, and for a
    detector that is no better than chance.
    """
    if not n or not right[1] or not rejected[1]:
        return Unscored("no items" if not n else "the detector was not calibrated on both kinds")
    sensitivity, specificity = right[0] / right[1], rejected[0] / rejected[1]
    if sensitivity + specificity <= 1:
        return Unscored(f"sensitivity {sensitivity:.2f} and specificity {specificity:.2f}: no better than chance")
    value = (hits / n + specificity - 1) / (sensitivity + specificity - 1)
    rate, size = (hits + Z**2 / 2) / (n + Z**2), n + Z**2
    se, sp = (right[0] + 1) / (right[1] + 2), (rejected[0] + 1) / (rejected[1] + 2)
    youden = se + sp - 1
    shrunk = min(1.0, max(0.0, (rate + sp - 1) / youden))
    of_se, of_sp = se * (1 - se) / (right[1] + 2), sp * (1 - sp) / (rejected[1] + 2)
    shift = 2 * Z**2 * (shrunk * of_se - (1 - shrunk) * of_sp)
    half = Z * (rate * (1 - rate) / size + shrunk**2 * of_se + (1 - shrunk) ** 2 * of_sp) ** 0.5 / youden
    low, high = (min(1.0, max(0.0, shrunk + shift + side * half)) for side in (-1, 1))
    value = min(1.0, max(0.0, value))
    return Scored(value, (min(low, value), max(high, value)), n, sign([signature, right, rejected]))
