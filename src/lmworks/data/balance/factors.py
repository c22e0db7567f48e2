"""How often each document counts: the product of the factors that fit it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmworks.config import unknown
from lmworks.data.annotation_table import LABEL, MEASURE
from lmworks.data.balance.config import Factor, unknown_source
from lmworks.data.balance.survey import Survey, key_of
from lmworks.data.cleaning.policy import Limit


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """Of each document a place in `times`, (n,); and of each factor how many documents it fits."""

    times: tuple[Fraction, ...]
    place: NDArray[np.integer]
    fits: tuple[int, ...]


def count_documents(
    factors: Sequence[Factor], survey: Survey, wanted: NDArray[np.bool_], annotations: Sequence[Path]
) -> Counted:
    """The factors of all documents; those that are not `wanted` (n,) need no annotations.

    ValueError for a factor that names a source, kind, language, measure or label that does not occur, and for documents
    that have no annotations where a factor asks for some.
    """
    if not factors:
        return Counted((Fraction(1),), np.zeros(len(survey), np.uint8), ())
    conditions = [condition for factor in factors for condition in _conditions(factor)]
    found = _found(conditions, survey, wanted, annotations) if conditions else np.zeros(len(survey), np.uint64)
    masks = np.zeros(len(survey), np.uint64)
    bit = 0
    for number, factor in enumerate(factors):
        own = len(_conditions(factor))
        asked = np.uint64((1 << own) - 1 << bit)
        fits = wanted & _by_what_it_is(factor, survey) & (found & asked == asked)
        masks |= np.where(fits, np.uint64(1 << number), np.uint64(0))
        bit += own
    distinct, place = np.unique(masks, return_inverse=True)
    exact = [Fraction(repr(factor.times)) for factor in factors]
    times = [
        math.prod((time for bit, time in enumerate(exact) if mask >> bit & 1), start=Fraction(1))
        for mask in distinct.tolist()
    ]
    fits = [int(np.count_nonzero(masks & np.uint64(1 << number))) for number in range(len(factors))]
    return Counted(tuple(times), place.astype(np.min_scalar_type(len(times))), tuple(fits))


def _by_what_it_is(factor: Factor, survey: Survey) -> NDArray[np.bool_]:
    """(n,) whether source, kind and language of a document are what the factor asks for."""
    fits = np.ones(len(survey), bool)
    for what, globs, names, place in (
        ("source", factor.sources, survey.sources, survey.source),
        ("kind", factor.kinds, survey.kinds, survey.kind),
        ("language", factor.languages, survey.languages, survey.language),
    ):
        for glob in globs:
            if not any(fnmatchcase(name, glob) for name in names):
                told = unknown_source(glob, names) if what == "source" else unknown(what, glob, names)
                raise ValueError(f"factors: {told}")
        if globs:
            fits &= np.array([any(fnmatchcase(name, glob) for glob in globs) for name in names])[place]
    return fits


# ---------------------------------------------------------------------------------------------------------------------
# Measures and labels


@dataclass(frozen=True, slots=True)
class _Condition:
    """What a column of annotations has to be: within a limit, or one of some words."""

    column: str
    wanted: Limit | tuple[str, ...]


def _conditions(factor: Factor) -> list[_Condition]:
    return [
        *(_Condition(MEASURE + name, limit) for name, limit in factor.measures.items()),
        *(_Condition(LABEL + name, words) for name, words in factor.labels.items()),
    ]


def _found(
    conditions: Sequence[_Condition], survey: Survey, wanted: NDArray[np.bool_], paths: Sequence[Path]
) -> NDArray[np.uint64]:
    """(n,) a bit for each condition that a document meets. What was found in the text as it is now goes before what was
    found in the one that it was cleaned from."""
    if not paths:
        raise ValueError("factors ask for measures or labels: add the stage data.annotate to what this one reads from")
    _check_columns(conditions, paths)
    keys, asked, met = _together([_read(conditions, path) for path in paths])
    result = np.zeros(len(survey), np.uint64)
    missing = wanted.copy()
    for own in (survey.extracted, survey.keys):
        at = np.minimum(np.searchsorted(keys, own), len(keys) - 1)
        known = keys[at] == own
        result[known] = result[known] & ~asked[at[known]] | met[at[known]]
        missing &= ~known
    if lacking := int(missing.sum()):
        raise ValueError(
            f"{lacking:,} of {int(wanted.sum()):,} documents have no annotations among the inputs: let data.annotate "
            "read from the same documents, or from those that they were cleaned from"
        )
    return result


def _check_columns(conditions: Sequence[_Condition], paths: Sequence[Path]) -> None:
    import pyarrow.parquet as pq

    columns = {name for path in paths for name in pq.read_schema(path).names}
    for what, prefix in (("measure", MEASURE), ("label", LABEL)):
        known = sorted(name.removeprefix(prefix) for name in columns if name.startswith(prefix))
        for condition in conditions:
            name = condition.column.removeprefix(prefix)
            if condition.column.startswith(prefix) and name not in known:
                raise ValueError(f"factors: {unknown(what, name, known)}")


_Bits = tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]


def _read(conditions: Sequence[_Condition], path: Path) -> _Bits:
    """Of one file: (keys of its documents, a bit for each condition that it can tell of, one for each that is met)."""
    import pyarrow.parquet as pq

    there = set(pq.read_schema(path).names)
    table = pq.read_table(path, columns=["uri", "hash", *sorted({each.column for each in conditions} & there)])
    uris, hashes = table.column("uri").to_pylist(), table.column("hash").to_pylist()
    keys = np.array([key_of(uri, text_hash) for uri, text_hash in zip(uris, hashes, strict=True)], np.uint64)
    asked, met = np.zeros(len(keys), np.uint64), np.zeros(len(keys), np.uint64)
    for number, condition in enumerate(conditions):
        if condition.column in there:
            bit = np.uint64(1 << number)
            asked |= bit
            met |= np.where(_meets(condition.wanted, table.column(condition.column)), bit, np.uint64(0))
    return keys, asked, met


def _meets(wanted: Limit | tuple[str, ...], column: Any) -> NDArray[np.bool_]:
    if isinstance(wanted, tuple):
        return np.array([word in wanted for word in column.to_pylist()], bool)
    values = column.to_numpy().astype(np.float64)  # nan where a document lacks the measure
    low = -math.inf if wanted.at_least is None else wanted.at_least
    high = math.inf if wanted.at_most is None else wanted.at_most
    return np.isfinite(values) & (low <= values) & (values <= high)


def _together(parts: Sequence[_Bits]) -> _Bits:
    """Of each key once, sorted, what all files say; never without a row, so that something can be looked up."""
    keys, asked, met = (np.concatenate([*column, np.zeros(1, np.uint64)]) for column in zip(*parts, strict=True))
    order = np.argsort(keys, kind="stable")
    distinct, first = np.unique(keys[order], return_index=True)
    return distinct, np.bitwise_or.reduceat(asked[order], first), np.bitwise_or.reduceat(met[order], first)
