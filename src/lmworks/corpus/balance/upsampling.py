"""Upsampling factors: how often each document counts, the product of the factors that fit it."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmworks.config import unknown
from lmworks.corpus.attributes import LABEL, SCORE, read_attributes
from lmworks.corpus.balance.config import UpsamplingFactor, unknown_source
from lmworks.corpus.balance.survey import Survey, key_of
from lmworks.corpus.filtering.filter_policy import Limit

_Condition = tuple[str, Limit | tuple[str, ...]]  # a column of attributes, and the values that fit


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """How often each document counts: its place in `times`, (n,)."""

    times: tuple[Fraction, ...]
    place: NDArray[np.int64]


NO_ATTRIBUTES = "factors ask for scores or labels: add the stage corpus.tag to what this one reads from"


def count_documents(
    factors: Sequence[UpsamplingFactor], survey: Survey, wanted: NDArray[np.bool_], files: Sequence[Path]
) -> Counted:
    """The factors of all documents; those that are not `wanted` (n,) need no attributes, which `files` hold.

    ValueError for a factor that names a source, kind, language, score or label that does not occur, and for documents
    that have no attributes where a factor asks for some.
    """
    conditions: list[list[_Condition]] = [
        [
            *((SCORE + name, limit) for name, limit in factor.limits.items()),
            *((LABEL + name, tuple(words)) for name, words in factor.labels.items()),
        ]
        for factor in factors
    ]
    asked = sorted({each for of_one in conditions for each in of_one}, key=str)
    met = _met(asked, survey, wanted, files) if asked else np.zeros((len(survey), 0), bool)
    times, place = [Fraction(1)], np.zeros(len(survey), np.int64)
    for factor, of_one in zip(factors, conditions, strict=True):
        fits = wanted & met[:, [asked.index(each) for each in of_one]].all(axis=1)
        for what, globs, names, number in (
            ("source", factor.sources, survey.sources, survey.source),
            ("kind", factor.kinds, survey.kinds, survey.kind),
            ("language", factor.languages, survey.languages, survey.language),
        ):
            matched = {glob: fnmatch.filter(names, glob) for glob in globs}
            for glob in (glob for glob, names_of_glob in matched.items() if not names_of_glob):
                error = unknown_source(glob, names) if what == "source" else unknown(what, glob, names)
                raise ValueError(f"factors: {error}")
            if globs:
                fits &= np.isin(number, [names.index(name) for found in matched.values() for name in found])
        codes, place = np.unique(2 * place + fits, return_inverse=True)
        own = Fraction(repr(factor.times))
        times = [times[code >> 1] * (own if code & 1 else 1) for code in codes.tolist()]
    return Counted(tuple(times), place)


def _met(
    conditions: Sequence[_Condition], survey: Survey, wanted: NDArray[np.bool_], files: Sequence[Path]
) -> NDArray[np.bool_]:
    """(n, conditions) whether a document meets each. Attributes of the text as it is now go before those of the one
    that it was cleaned from."""
    from pyarrow.parquet import read_schema

    if not files:
        raise ValueError(NO_ATTRIBUTES)
    columns = {name for path in files for name in read_schema(path).names}
    for column, _ in conditions:
        what, prefix = ("score", SCORE) if column.startswith(SCORE) else ("label", LABEL)
        known = [name.removeprefix(prefix) for name in columns if name.startswith(prefix)]
        if column not in columns:
            raise ValueError(f"factors: {unknown(what, column.removeprefix(prefix), known)}")
    keys, found = [np.zeros(1, np.uint64)], [np.full((1, len(conditions)), -1, np.int8)]  # never without a row
    for path in files:
        table = read_attributes(path, ["uri", "hash", *(column for column, _ in conditions)])
        keys.append(np.array([key_of(*each) for each in zip(table.uris, table.hashes, strict=True)], np.uint64))
        fits = np.full((len(table), len(conditions)), -1, np.int8)  # -1 where the table says nothing of it
        for place, (column, wanted_values) in enumerate(conditions):
            if isinstance(wanted_values, tuple):
                words = table.labels.get(column.removeprefix(LABEL))
                if words is not None:
                    fits[:, place] = [word in wanted_values for word in words]
            elif (values := table.scores.get(column.removeprefix(SCORE))) is not None:
                low, high = wanted_values.bounds
                fits[:, place] = np.isfinite(values) & (low <= values) & (values <= high)  # NaN where it has none
        found.append(fits)
    key, fits = np.concatenate(keys), np.concatenate(found)
    order = np.argsort(key, kind="stable")
    key, first = np.unique(key[order], return_index=True)
    fits = np.maximum.reduceat(fits[order], first)
    result = np.full((len(survey), len(conditions)), -1, np.int8)
    missing = wanted.copy()
    for own in (survey.extracted, survey.keys):
        at = np.minimum(np.searchsorted(key, own), len(key) - 1)
        known = key[at] == own
        result[known] = np.where(fits[at[known]] < 0, result[known], fits[at[known]])
        missing &= ~known
    if lacking := int(missing.sum()):
        raise ValueError(
            f"{lacking:,} of {int(wanted.sum()):,} documents have no attributes among the inputs: let corpus.tag "
            "read from the same documents, or from those that they were cleaned from"
        )
    return result == 1
