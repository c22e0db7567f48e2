"""Upsampling factors: how often each document counts, the product of the factors that fit it."""

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
from lmworks.corpus.attributes import LABEL, SCORE
from lmworks.corpus.balance.config import UpsamplingFactor, unknown_source
from lmworks.corpus.balance.survey import Survey, key_of
from lmworks.corpus.filtering.filter_policy import Limit

_Condition = tuple[str, Limit | tuple[str, ...]]  # a column of annotations, and the values that fit


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """Of each document a place in `times`, (n,); and of each factor how many documents it fits."""

    times: tuple[Fraction, ...]
    place: NDArray[np.int64]
    fits: tuple[int, ...]


def count_documents(
    factors: Sequence[UpsamplingFactor], survey: Survey, wanted: NDArray[np.bool_], annotations: Sequence[Path]
) -> Counted:
    """The factors of all documents; those that are not `wanted` (n,) need no annotations.

    ValueError for a factor that names a source, kind, language, measure or label that does not occur, and for documents
    that have no annotations where a factor asks for some.
    """
    conditions = [_conditions(factor) for factor in factors]
    asked = sorted({each for of_one in conditions for each in of_one}, key=str)
    met = _met(asked, survey, wanted, annotations) if asked else np.zeros((len(survey), 0), bool)
    times, place, counts = [Fraction(1)], np.zeros(len(survey), np.int64), []
    for factor, of_one in zip(factors, conditions, strict=True):
        fits = wanted & _by_survey(factor, survey) & met[:, [asked.index(each) for each in of_one]].all(axis=1)
        codes, place = np.unique(2 * place + fits, return_inverse=True)
        own = Fraction(repr(factor.times))
        times = [times[code >> 1] * (own if code & 1 else 1) for code in codes.tolist()]
        counts.append(int(fits.sum()))
    return Counted(tuple(times), place, tuple(counts))


def _by_survey(factor: UpsamplingFactor, survey: Survey) -> NDArray[np.bool_]:
    """(n,) whether source, kind and language of a document are those of the factor."""
    fits = np.ones(len(survey), bool)
    for what, globs, names, place in (
        ("source", factor.sources, survey.sources, survey.source),
        ("kind", factor.kinds, survey.kinds, survey.kind),
        ("language", factor.languages, survey.languages, survey.language),
    ):
        for glob in globs:
            if not any(fnmatchcase(name, glob) for name in names):
                error = unknown_source(glob, names) if what == "source" else unknown(what, glob, names)
                raise ValueError(f"factors: {error}")
        if globs:
            fits &= np.array([any(fnmatchcase(name, glob) for glob in globs) for name in names])[place]
    return fits


# ---------------------------------------------------------------------------------------------------------------------
# Measures and labels


def _conditions(factor: UpsamplingFactor) -> list[_Condition]:
    return [
        *((SCORE + name, limit) for name, limit in factor.measures.items()),
        *((LABEL + name, tuple(words)) for name, words in factor.labels.items()),
    ]


def _met(
    conditions: Sequence[_Condition], survey: Survey, wanted: NDArray[np.bool_], paths: Sequence[Path]
) -> NDArray[np.bool_]:
    """(n, conditions) whether a document meets each. Annotations of the text as it is now go before those of the one
    that it was cleaned from."""
    import pyarrow.parquet as pq

    if not paths:
        raise ValueError("factors ask for measures or labels: add the stage data.annotate to what this one reads from")
    columns = {name for path in paths for name in pq.read_schema(path).names}
    for column, _ in conditions:
        what, prefix = ("measure", SCORE) if column.startswith(SCORE) else ("label", LABEL)
        known = [name.removeprefix(prefix) for name in columns if name.startswith(prefix)]
        if column not in columns:
            raise ValueError(f"factors: {unknown(what, column.removeprefix(prefix), known)}")
    parts = [_read(conditions, path) for path in paths]
    keys = np.concatenate([each for each, _ in parts] + [np.zeros(1, np.uint64)])  # never without a row
    found = np.concatenate([each for _, each in parts] + [np.full((1, len(conditions)), -1, np.int8)])
    order = np.argsort(keys, kind="stable")
    keys, first = np.unique(keys[order], return_index=True)
    found = np.maximum.reduceat(found[order], first)
    result = np.full((len(survey), len(conditions)), -1, np.int8)
    missing = wanted.copy()
    for own in (survey.extracted, survey.keys):
        at = np.minimum(np.searchsorted(keys, own), len(keys) - 1)
        known = keys[at] == own
        result[known] = np.where(found[at[known]] < 0, result[known], found[at[known]])
        missing &= ~known
    if lacking := int(missing.sum()):
        raise ValueError(
            f"{lacking:,} of {int(wanted.sum()):,} documents have no annotations among the inputs: let data.annotate "
            "read from the same documents, or from those that they were cleaned from"
        )
    return result == 1


def _read(conditions: Sequence[_Condition], path: Path) -> tuple[NDArray[np.uint64], NDArray[np.int8]]:
    """Keys of the documents of a file, and (m, conditions) 1 where one is met, else 0, and -1 without its column."""
    import pyarrow.parquet as pq

    there = set(pq.read_schema(path).names)
    table = pq.read_table(path, columns=["uri", "hash", *sorted({column for column, _ in conditions} & there)])
    pairs = zip(table.column("uri").to_pylist(), table.column("hash").to_pylist(), strict=True)
    keys = np.array([key_of(uri, text_hash) for uri, text_hash in pairs], np.uint64)
    found = np.full((len(keys), len(conditions)), -1, np.int8)
    for number, (column, wanted) in enumerate(conditions):
        if column in there:
            found[:, number] = _fits(wanted, table.column(column))
    return keys, found


def _fits(wanted: Limit | tuple[str, ...], column: Any) -> NDArray[np.bool_]:
    if isinstance(wanted, tuple):
        return np.array([word in wanted for word in column.to_pylist()], bool)
    values = column.to_numpy().astype(np.float64)  # nan where a document lacks the measure
    low = -math.inf if wanted.at_least is None else wanted.at_least
    high = math.inf if wanted.at_most is None else wanted.at_most
    return np.isfinite(values) & (low <= values) & (values <= high)
