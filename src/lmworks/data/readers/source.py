"""Where bytes come from: a file, or an object at any address that fsspec knows, such as `s3://bucket/crawl/*.warc.gz`.

Only what the user names is reached; a path never needs fsspec.
"""

import glob
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lmworks.data.files import NoSourceError
from lmworks.data.readers.streams import buffered

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def is_url(source: str) -> bool:
    """Whether it begins with a scheme; `C:/docs` does not."""
    return _SCHEME.match(source) is not None


@contextmanager
def open_source(source: str | Path) -> Iterator[io.BufferedReader]:
    """The bytes of a file or of an object, as a stream that can be sought where the store allows it.

    Raises OSError where there is nothing to read, and ModuleNotFoundError where fsspec, or what it needs for this
    scheme, is not installed.
    """
    if isinstance(source, Path) or not is_url(source):
        with Path(source).expanduser().open("rb") as stream:
            yield stream
        return
    system, path = _file_system(source)
    with system.open(path, "rb") as stream:
        yield buffered(stream)


def list_sources(source: str | Path) -> list[str]:
    """The files that a path, folder, glob or address stands for, sorted; each is one that `open_source` takes.

    Hidden files are listed as others are. Raises NoSourceError where there is none; else as `open_source`.
    """
    found = _objects(source) if isinstance(source, str) and is_url(source) else _files(Path(source).expanduser())
    if not found:
        raise NoSourceError(f"there is nothing at {source}: correct the path or the glob")
    return sorted(found)


def _files(path: Path) -> list[str]:
    if path.is_file():
        return [str(path)]
    if path.is_dir():
        return [str(each) for each in path.rglob("*") if each.is_file()]
    fixed = next((number for number, part in enumerate(path.parts) if glob.has_magic(part)), None)
    if fixed is None:
        return []
    root, pattern = Path(*path.parts[:fixed]), str(Path(*path.parts[fixed:]))
    return [str(each) for each in root.glob(pattern) if each.is_file()]


def _objects(source: str) -> list[str]:
    system, path = _file_system(source)
    if system.isfile(path):
        found = [path]
    elif "*" in path:
        found = [name for name, info in system.glob(path, detail=True).items() if info["type"] == "file"]
    else:
        found = system.find(path)  # all below a folder
    return [system.unstrip_protocol(name) for name in found]


def _file_system(source: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"reading {source} needs fsspec: pip install fsspec") from None
    try:
        return fsspec.core.url_to_fs(source)
    except ImportError as error:  # such as s3fs for s3://
        raise ModuleNotFoundError(f"reading {source} needs another package: {error}") from error
