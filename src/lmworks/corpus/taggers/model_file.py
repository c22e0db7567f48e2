"""Files of small learned models: arrays of numpy and nothing else."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lmworks.artefact import check_new

SUFFIX = ".npz"


class ModelFileError(ValueError):
    """A file that is not the model it should be; the message names it and the fix."""


def check_model_file(path: Path) -> None:
    """Before the work begins: FileExistsError for a file that is there, ValueError for a name that is none of numpy's
    archives."""
    check_new(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"a model is an archive of arrays: call it {path.with_suffix(SUFFIX)}, not {path}")


def read_arrays(path: Path, names: Sequence[str], what: str) -> Mapping[str, np.ndarray]:
    """All arrays of a file, among them those named. FileNotFoundError where there is none, ModelFileError for a file
    that is no archive of arrays, or lacks some."""
    remedy = f"name the file that `lmworks data {'classifier' if what == 'classifier' else 'ngrams'}` made"
    if path.is_dir():
        raise ModelFileError(f"{path} is a folder and no {what}: {remedy}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise ModelFileError(f"{path} is no {what}: {remedy}") from error
    if missing := [name for name in names if name not in arrays]:
        raise ModelFileError(f"{path} is no {what}, as it lacks {', '.join(missing)}: {remedy}")
    return arrays
