"""How good probabilities are, on texts that nothing was learned from: do they order, and do they mean what they say?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmworks.records import Score, Scored, Unscored
from lmworks.statistics import LEVEL, wilson_interval

_BINS = 10
_TINY = 1e-15  # a probability of 0 or 1 would make an infinite loss
_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The `n` texts whose probability is from `low` to `high`.

    predicted  Their mean probability.
    observed   Which share of them has the label, with its 95 % Wilson interval; near `predicted` where probabilities
               mean what they say.
    """

    low: float
    high: float
    n: int
    predicted: float
    observed: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Point:
    """What a threshold does: texts of this probability or a higher one are taken to have the label.

    precision  Which share of those taken has it.
    recall     Which share of those that have it is taken.
    wrongly    Which share of those that do not have it is taken.
    """

    threshold: float
    precision: Score
    recall: Score
    wrongly: Score


@dataclass(frozen=True, slots=True)
class Evaluation:
    """On `n` texts, `positives` of which have the label.

    auc          How often a text with the label has a higher probability than one without it.
    accuracy     How often the label is the likelier one.
    log_loss     Nats that the labels cost under the probabilities.
    reliability  Ten bins of probability, without the empty ones.
    suggested    What the threshold does that other texts suggested.
    points       What others do.
    """

    n: int
    positives: int
    auc: Scored
    accuracy: Scored
    log_loss: Scored
    reliability: tuple[ReliabilityBin, ...]
    suggested: Point
    points: tuple[Point, ...]


def evaluate(
    probabilities: NDArray[np.float64], labels: NDArray[np.bool_], signature: str, threshold: float = 0.5
) -> Evaluation:
    """Compare (n,) probabilities with (n,) labels, some of which are true and some false. A threshold that these texts
    suggested would look better than it is: take it from others."""
    n, right = len(labels), int(((probabilities > 0.5) == labels).sum())
    losses = -np.log(np.maximum(np.where(labels, probabilities, 1 - probabilities), _TINY))
    mean = float(losses.mean())
    return Evaluation(
        n=n,
        positives=int(labels.sum()),
        auc=_auc(probabilities, labels, signature),
        accuracy=Scored(right / n, wilson_interval(right, n), n, signature),
        log_loss=Scored(mean, _normal(mean, float(losses.std()) / n**0.5), n, signature),
        reliability=reliability(probabilities, labels),
        suggested=point(threshold, probabilities, labels, signature),
        points=tuple(point(each, probabilities, labels, signature) for each in _THRESHOLDS),
    )


def point(threshold: float, probabilities: NDArray[np.float64], labels: NDArray[np.bool_], signature: str) -> Point:
    """What a threshold does to these texts, with Wilson's intervals."""
    taken = probabilities >= threshold
    rightly, positives = int((taken & labels).sum()), int(labels.sum())
    wrongly = int(taken.sum()) - rightly
    return Point(
        threshold,
        precision=_share(rightly, int(taken.sum()), signature, "no text is taken"),
        recall=_share(rightly, positives, signature, "no text has the label"),
        wrongly=_share(wrongly, len(labels) - positives, signature, "all texts have the label"),
    )


def _share(part: int, n: int, signature: str, nothing: str) -> Score:
    return Scored(part / n, wilson_interval(part, n), n, signature) if n else Unscored(nothing)


def suggest_threshold(probabilities: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """The threshold where recall minus the share wrongly taken is largest (Youden 1950, "Index for rating diagnostic
    tests"), which does not depend on how frequent the label is among the texts: in the corpus that is to be filtered it
    is another one. Of several the middle one, rounded as far as no text changes its side by that."""
    values = np.unique(probabilities)
    if len(values) == 1:
        return float(values[0])
    middle = (values[:-1] + values[1:]) / 2
    between = np.where(middle > values[:-1], middle, values[1:])  # no number lies between the smallest ones
    above = [np.sort(probabilities[labels == has]) for has in (True, False)]
    recall, wrongly = (1 - np.searchsorted(each, between) / len(each) for each in above)
    index = recall - wrongly
    best = np.flatnonzero(index >= index.max() - 1e-12)
    place = int(best[len(best) // 2])
    low, exact, high = float(values[place]), float(between[place]), float(values[place + 1])
    rounded = (float(f"{exact:.{digits}g}") for digits in range(2, 17))
    return next((each for each in rounded if low < each <= high), exact)


def reliability(probabilities: NDArray[np.float64], labels: NDArray[np.bool_]) -> tuple[ReliabilityBin, ...]:
    places = np.minimum((probabilities * _BINS).astype(np.int64), _BINS - 1)
    bins = []
    for place in np.unique(places).tolist():
        inside = places == place
        n, positives = int(inside.sum()), int(labels[inside].sum())
        predicted = float(probabilities[inside].mean())
        interval = wilson_interval(positives, n)
        bins.append(ReliabilityBin(place / _BINS, (place + 1) / _BINS, n, predicted, positives / n, interval))
    return tuple(bins)


def _auc(probabilities: NDArray[np.float64], labels: NDArray[np.bool_], signature: str) -> Scored:
    """The area under the ROC curve and its interval (DeLong et al. 1988; by ranks, Sun & Xu 2014).

    Where no two texts are in the wrong order the variance is 0 and would claim certainty: the interval is then that of
    as many right ones as there are texts of the rarer label.
    """
    from scipy.stats import rankdata

    positives, negatives = int(labels.sum()), int((~labels).sum())
    ranks = rankdata(probabilities)
    above = (ranks[labels] - rankdata(probabilities[labels])) / negatives  # of each positive, negatives below it
    below = 1 - (ranks[~labels] - rankdata(probabilities[~labels])) / positives
    auc = float(above.mean())
    rarer = min(positives, negatives)
    if auc in (0.0, 1.0) or rarer < 2:
        return Scored(auc, wilson_interval(round(auc * rarer), rarer), positives + negatives, signature)
    error = (above.var(ddof=1) / positives + below.var(ddof=1) / negatives) ** 0.5
    low, high = _normal(auc, float(error))
    return Scored(auc, (max(low, 0.0), min(high, 1.0)), positives + negatives, signature)


def _normal(mean: float, error: float) -> tuple[float, float]:
    """The 95 % interval of a mean with this standard error. A bootstrap would hold 2,000 numbers for each text."""
    from scipy.stats import norm

    width = float(norm.ppf((1 + LEVEL) / 2)) * error
    return mean - width, mean + width
