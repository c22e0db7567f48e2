"""A law of one's own, as `lmworks sweep` writes it and `lmworks plan --law FOLDER` reads it. Free of torch."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lmworks.artefact import write_json
from lmworks.config import from_mapping, to_mapping
from lmworks.train.planning.scaling_laws import ParametricLaw

if TYPE_CHECKING:
    from lmworks.train.planning.fitting import FittedLaw

LAW, RUNS = "law.json", "runs.json"  # of a sweep; the law where one follows from the runs


def write_law(path: Path, fitted: "FittedLaw", source: str) -> None:
    """The law, its intervals, the number of runs, and in words where it is from."""
    numbers = {"law": fitted.law, "intervals": fitted.intervals, "n": fitted.n, "source": source}
    write_json(path, to_mapping(numbers))


def read_law(folder: Path) -> tuple[ParametricLaw, str]:
    """The law in this folder of a sweep, and its source; ValueError names a file that is damaged."""
    path = folder / LAW
    try:
        found = json.loads(path.read_text("utf-8"))
        return from_mapping(ParametricLaw, found["law"], [str(path), "law"]), str(found["source"])
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no law that a sweep wrote: {error!r}") from error
