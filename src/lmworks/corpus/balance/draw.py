"""Which documents go into the corpus and how often: an order of all copies, of which a quota takes the beginning.

A document with the draw u, uniform in [0, 1) by its hash and the seed, that counts f times, has floor(L·f + u) copies
at the level L: f·L in expectation, and always one of the two whole numbers around it. A level of 1 takes all documents
that count once exactly once. The level rises until the quota is reached, so each document is decided by its own hash
and one number: another quota, or more documents, moves the level and nothing else (bottom-k sampling: Cohen & Kaplan
2007, "Summarizing data using bottom-k sketches").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmworks.corpus.balance.config import BalanceConfig
from lmworks.corpus.balance.strata import REST, Stratum, Targets, find_targets
from lmworks.corpus.balance.survey import Survey
from lmworks.corpus.balance.upsampling import Counted, count_documents
from lmworks.corpus.dedup.hashes import mix

# Why a document is not in the corpus: places in REASONS.
REASONS = (
    "",
    "not drawn: its source gives less than it has",
    "its source has the weight 0",
    "empty",
    "there to evaluate by",
)
IN, NOT_DRAWN, NO_WEIGHT, EMPTY, EVALUATION = range(5)


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """How often each document comes, or why it does not.

    copies   (n,) int32: how often it comes
    reasons  (n,) int8: why it does not, as a place in REASONS
    sizes    (n,) int64: its size in the unit of the config
    """

    copies: NDArray[np.int32]
    reasons: NDArray[np.int8]
    sizes: NDArray[np.int64]
    counted: Counted
    targets: Targets


def draw_documents(config: BalanceConfig, survey: Survey, evaluation: NDArray[np.bool_], files: Sequence[Path]) -> Draw:
    """Draw the documents. `evaluation` (n,) says which are there to evaluate by, and `files` hold attributes.
    ValueError says why it cannot be done."""
    reasons = np.zeros(len(survey), np.int8)
    reasons[survey.sizes == 0] = EMPTY
    if evaluation.any():
        reasons[evaluation | np.isin(survey.equal, survey.equal[evaluation])] = EVALUATION
    wanted = reasons == IN
    if not wanted.any():
        raise ValueError("no document is left: all are empty or there to evaluate by")
    sizes = survey.sizes if config.unit == "bytes" else np.ones(len(survey), np.int64)
    counted = count_documents(config.factors, survey, wanted, files)
    strata = _strata(config, survey, wanted)
    amounts: dict[Stratum, Fraction] = {}  # the sums of the sizes, each counted as its factors say
    for stratum, places in strata.items():
        sums = np.zeros(len(counted.times), np.int64)
        np.add.at(sums, counted.place[places], sizes[places])
        amounts[stratum] = sum((time * int(size) for time, size in zip(counted.times, sums, strict=True)), Fraction(0))
    targets = find_targets(config, amounts)
    copies = np.zeros(len(survey), np.int32)
    for stratum, places in strata.items():
        if stratum not in targets.quotas:
            reasons[places] = NO_WEIGHT
            continue
        times = counted.place[places]
        epochs = config.epochs_of(stratum.source)
        most = np.array([-(-(time * epochs) // 1) for time in counted.times], np.int64)[times]
        factors = np.array([float(time) for time in counted.times])[times]
        size = (targets.quotas[stratum], targets.caps[stratum])
        draws = uniform(survey.hashed[places], config.seed)
        copies[places] = draw_copies(draws, factors, sizes[places], most, *size, survey.keys[places])
    reasons[wanted & (copies == 0) & (reasons == IN)] = NOT_DRAWN
    if not copies.any():
        raise ValueError(
            f"every document is larger than its quota: a total of {targets.total:,} {config.unit} is too small"
        )
    if config.augment and copies.max() == 1:
        raise ValueError("augment rewrites repeats, and no document is repeated: raise max_epochs, or leave it out")
    return Draw(copies, reasons, sizes, counted, targets)


def _strata(config: BalanceConfig, survey: Survey, wanted: NDArray[np.bool_]) -> dict[Stratum, NDArray[np.int64]]:
    """The documents of each stratum."""
    languages = [REST, *survey.languages]
    place = np.array([0, *(at if name in config.languages else 0 for at, name in enumerate(languages) if at)])
    codes = np.where(wanted, survey.source.astype(np.int64) * len(languages) + place[survey.language + 1], -1)
    order = np.argsort(codes, kind="stable")
    distinct, first = np.unique(codes[order], return_index=True)
    return {
        Stratum(survey.sources[code // len(languages)], languages[code % len(languages)]): places
        for code, places in zip(distinct.tolist(), np.split(order, first[1:]), strict=True)
        if code >= 0
    }


def uniform(hashed: NDArray[np.uint64], seed: int) -> NDArray[np.float64]:
    """Hashes (n,) → numbers in [0, 1), multiples of 2^-53, that depend on each hash and the seed alone."""
    keyed = mix(hashed ^ mix(np.array([seed], np.uint64) + np.uint64(0x9E3779B97F4A7C15)))
    return (keyed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def draw_copies(
    draws: NDArray[np.float64],
    factors: NDArray[np.float64],
    sizes: NDArray[np.int64],
    most: NDArray[np.int64],
    quota: int,
    limit: int,
    ties: NDArray[np.uint64],
) -> NDArray[np.int64]:
    """Copies (n,) of documents, of which all together have the size nearest to the quota that a level, and the order
    among equal levels, gives: never more than `limit`, and from the quota by less than one document.

    draws, factors, sizes  (n,) of each document: u in [0, 1), f above 0, and its size, positive
    most                   (n,) copies that it may have
    quota, limit           in the unit of the sizes, quota <= limit <= the size of all copies together
    ties                   (n,) the order of copies that come at one level, as happens for equal texts

    Levels are floats. L·f + u rises with L in floats as well, so that the copies of a lower level are among those of a
    higher one. Bisection continues until two neighbouring floats enclose the quota.
    """

    def at(level: float) -> NDArray[np.int64]:
        return np.minimum(np.floor(level * factors + draws), most).astype(np.int64)

    low, high = 0.0, 1.0
    while (copies := at(high)) @ sizes <= quota:
        if (copies == most).all():
            return copies
        low, high = high, 2 * high
    while (middle := low + (high - low) / 2) not in (low, high):
        low, high = (middle, high) if at(middle) @ sizes <= quota else (low, middle)
    copies = at(low)
    events = np.repeat(np.arange(len(sizes)), at(high) - copies)  # those at the next level, nearest to the quota
    events = events[np.argsort(ties[events], kind="stable")]
    after = copies @ sizes + np.concatenate([[0], np.cumsum(sizes[events])])
    np.add.at(copies, events[: int(np.argmin(np.abs(after[after <= limit] - quota)))], 1)
    return copies
