"""Which documents go into the corpus and how often: from the survey, the factors and the targets."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmworks.data.balance.config import BalanceConfig
from lmworks.data.balance.drawing import draw_copies, uniform
from lmworks.data.balance.factors import Counted, count_documents
from lmworks.data.balance.survey import Survey
from lmworks.data.balance.targets import REST, Cell, Targets, find_targets

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
class Decision:
    """What becomes of each document.

    copies   (n,) int32: how often it comes
    reasons  (n,) int8: why it does not, as a place in REASONS
    sizes    (n,) int64: its size in the unit of the config
    """

    copies: NDArray[np.int32]
    reasons: NDArray[np.int8]
    sizes: NDArray[np.int64]
    counted: Counted
    targets: Targets


def decide(
    config: BalanceConfig, survey: Survey, evaluation: NDArray[np.bool_], annotations: Sequence[Path]
) -> Decision:
    """`evaluation` (n,) says which documents are there to evaluate by. ValueError says why it cannot be done."""
    reasons = np.zeros(len(survey), np.int8)
    reasons[survey.sizes == 0] = EMPTY
    if evaluation.any():
        reasons[evaluation | np.isin(survey.equal, survey.equal[evaluation])] = EVALUATION
    wanted = reasons == IN
    if not wanted.any():
        raise ValueError("no document is left: all are empty or there to evaluate by")
    sizes = survey.sizes if config.unit == "bytes" else np.ones(len(survey), np.int64)
    counted = count_documents(config.factors, survey, wanted, annotations)
    members = _members(config, survey, wanted)
    _check_some_left(config, survey, {cell.source for cell in members})
    amounts = {cell: _amount(counted, sizes, places) for cell, places in members.items()}
    targets = find_targets(config, amounts)
    copies = np.zeros(len(survey), np.int32)
    for cell, places in members.items():
        if cell not in targets.quotas:
            reasons[places] = NO_WEIGHT
            continue
        times = counted.place[places]
        epochs = config.epochs_of(cell.source)
        most = np.array([-(-(time * epochs) // 1) for time in counted.times], np.int64)[times]
        factors = np.array([float(time) for time in counted.times])[times]
        size = (targets.quotas[cell], targets.caps[cell])
        draws = uniform(survey.hashed[places], config.seed)
        copies[places] = draw_copies(draws, factors, sizes[places], most, *size, survey.keys[places])
    reasons[wanted & (copies == 0) & (reasons == IN)] = NOT_DRAWN
    if not copies.any():
        raise ValueError(
            f"every document is larger than its quota: a total of {targets.total:,} {config.unit} is too small"
        )
    if config.augment and copies.max() == 1:
        raise ValueError(
            "augment writes repeats otherwise, and no document is repeated: raise max_epochs, or leave augment out"
        )
    return Decision(copies, reasons, sizes, counted, targets)


def _check_some_left(config: BalanceConfig, survey: Survey, left: Collection[str]) -> None:
    """ValueError for a source of the config that has documents, none of which may come."""
    for name in config.sources:
        if name in survey.sources and name not in left:
            raise ValueError(
                f"sources.{name}: all of its documents are empty or there to evaluate by: leave sources.{name} out"
            )


def _members(config: BalanceConfig, survey: Survey, wanted: NDArray[np.bool_]) -> dict[Cell, NDArray[np.int64]]:
    """The documents of each cell."""
    bounded = np.array([language in config.languages for language in survey.languages])
    language = np.where(bounded[survey.language], survey.language, -1)
    codes = survey.source.astype(np.int64)
    codes *= len(survey.languages) + 1
    codes += language + 1
    codes[~wanted] = -1
    order = np.argsort(codes, kind="stable")
    distinct, first = np.unique(codes[order], return_index=True)
    found = {}
    for code, places in zip(distinct.tolist(), np.split(order, first[1:]), strict=True):
        if code >= 0:
            source, own = divmod(code, len(survey.languages) + 1)
            found[Cell(survey.sources[source], survey.languages[own - 1] if own else REST)] = places
    return found


def _amount(counted: Counted, sizes: NDArray[np.int64], places: NDArray[np.int64]) -> Fraction:
    """What documents come to, each counted as its factors say."""
    sums = np.zeros(len(counted.times), np.int64)
    np.add.at(sums, counted.place[places], sizes[places])
    return sum((time * size for time, size in zip(counted.times, sums.tolist(), strict=True)), Fraction(0))
