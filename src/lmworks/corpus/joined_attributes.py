"""Annotations of several stages about the same documents, as one: heuristics of one, a language model's measure of
another."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lmworks.corpus.attribute_columns import Columns
from lmworks.corpus.attribute_table import ANNOTATIONS, AttributeTable, annotation_paths, read_annotations
from lmworks.corpus.languages import DECLARED, MEASURED, languages_of


def annotation_files(inputs: Mapping[str, Path]) -> list[tuple[Path, ...]]:
    """Of each shard of documents its files of annotations, one of each input that holds such. ValueError where none
    does, or two are of other documents."""
    found = {name: annotation_paths(folder) for name, folder in inputs.items() if (folder / ANNOTATIONS).exists()}
    if not found:
        raise ValueError(f"no input holds annotations, which data.annotate makes, among: {', '.join(inputs) or 'none'}")
    stems = {name: [path.name for path in paths] for name, paths in found.items()}
    first = next(iter(stems))
    for name, of_input in stems.items():
        if of_input != stems[first]:
            raise ValueError(
                f"{first} and {name} are annotations of other documents: let both read from the same stages, in the "
                "same order"
            )
    return list(zip(*found.values(), strict=True))


def read_joined(paths: Sequence[Path]) -> AttributeTable:
    """The annotations of one shard, from all files about it; its label `language` is what `languages.py` makes of the
    measured and the declared one. ValueError where two of them contradict each other."""
    joined = read_annotations(paths[0])
    for path in paths[1:]:
        joined = _joined(joined, read_annotations(path), f"{paths[0]} and {path}")
    return replace(joined, labels=_with_language(joined.labels)) if DECLARED in joined.labels else joined


def _joined(one: AttributeTable, other: AttributeTable, which: str) -> AttributeTable:
    if (list(one.uris), list(one.hashes)) != (list(other.uris), list(other.hashes)):
        raise ValueError(f"{which} are annotations of other documents: make both anew")
    if list(one.edits) != list(other.edits):
        raise ValueError(
            f"{which} were measured in texts that were repaired in different ways, so that their places differ: give "
            "both stages the same setting of repair"
        )
    return replace(
        one,
        measures=_together(one.measures, other.measures, which),
        labels=_together(one.labels, other.labels, which),
        marks=[tuple(sorted({*mine, *theirs})) for mine, theirs in zip(one.marks, other.marks, strict=True)],
    )


def _with_language(labels: Mapping[str, Sequence[str | None]]) -> Mapping[str, Sequence[str | None]]:
    def read(name: str) -> Sequence[str | None]:
        return languages_of(labels) if name == MEASURED else labels[name]

    return Columns(tuple(sorted({*labels, MEASURED})), read)


def _together(one: Mapping[str, Any], other: Mapping[str, Any], which: str) -> dict[str, Any]:
    """The columns of both, by their names. What both have must be the same in both."""
    for name in sorted(one.keys() & other.keys()):
        mine, theirs = one[name], other[name]
        is_number = isinstance(mine, np.ndarray)
        if not (np.array_equal(mine, theirs, equal_nan=True) if is_number else list(mine) == list(theirs)):
            raise ValueError(
                f"{which} both have {name}, and not the same: leave it out of one, or give it another name"
            )
    return {name: one[name] if name in one else other[name] for name in sorted({*one, *other})}
