"""A law of one's own, as `lmworks sweep` writes it and `lmworks plan --law FOLDER` reads it. Free of torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmworks.artefact import write_json
from lmworks.config import from_mapping, to_mapping
from lmworks.train.planning.scaling_laws import ParametricLaw

if TYPE_CHECKING:
    from lmworks.train.planning.parametric_fit import FittedLaw

LAW, RUNS = "law.json", "runs.json"  # of a sweep; the law where one follows from the runs


@dataclass(frozen=True)
class OwnLaw:
    """`source`, and why it is doubted, in words; `vocabulary`: tokens of the tokenizer that it was found with. Sweeps
    before lmworks kept these have no doubts here, and no vocabulary."""

    law: ParametricLaw
    source: str
    doubts: tuple[str, ...] = ()
    vocabulary: int | None = None


def write_law(path: Path, fitted: "FittedLaw", source: str, doubts: Sequence[str], vocabulary: int) -> None:
    """The fields of an `OwnLaw`, with its intervals and the number of runs."""
    numbers = {"law": fitted.law, "intervals": fitted.intervals, "n": fitted.n, "source": source}
    write_json(path, to_mapping(numbers | {"doubts": tuple(doubts), "vocabulary": vocabulary}))


def read_law(folder: Path) -> OwnLaw:
    """The law in this folder of a sweep; ValueError names a file that is damaged."""
    path = folder / LAW
    try:
        found = json.loads(path.read_text("utf-8"))
        kept = {key: found[key] for key in ("law", "source", "doubts", "vocabulary") if key in found}
        return from_mapping(OwnLaw, kept, [str(path)])
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no law that a sweep wrote: {error!r}") from error
