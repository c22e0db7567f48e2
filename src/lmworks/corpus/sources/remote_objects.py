"""Where bytes come from: a file, or an object at any address that fsspec knows, such as `s3://bucket/crawl/*.warc.gz`.

Only what the user names is reached; a path never needs fsspec.
"""

import glob
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from lmworks.artefact import UnreachableError
from lmworks.corpus.extract.charset import printable
from lmworks.corpus.sources.files import (
    FoundFile,
    NoSourceError,
    RemoteObject,
    reason_by_name,
    take_label,
    without_password,
)
from lmworks.records import RejectedRecord

_PIECE = 1 << 16  # bytes that are asked of a store at once
# What stores tell of an object that changes with its content, by the names that they have for it.
_VERSIONS = frozenset(
    ("content-md5", "crc32c", "created", "digest", "etag", "generation", "last-modified", "last_modified", "md5hash",
     "mtime")
)  # fmt: skip


@contextmanager
def open_found(found: FoundFile) -> Iterator[io.BufferedReader]:
    """The bytes of what was found, as a stream that can be sought where the store allows it.

    Raises OSError for a file that cannot be read, UnreachableError for an object, and ModuleNotFoundError where fsspec,
    or what it needs for this scheme, is not installed.
    """
    if found.remote is None:
        with found.path.open("rb") as stream:
            yield stream
        return
    system, path = _file_system(found.remote.address)
    try:
        raw = system.open(path, "rb")
    except Exception as error:  # each store has errors of its own
        raise _unreachable(found.remote.address, error) from error
    with raw:
        yield io.BufferedReader(_Object(raw, found.remote.address), _PIECE)  # type: ignore[arg-type]


def size_of(found: FoundFile) -> int:
    """Bytes; 0 where that is not known. Raises OSError for a file that is not there."""
    return found.path.stat().st_size if found.remote is None else found.remote.size


def find_objects(
    addresses: Sequence[str], exclude: Sequence[str], labels: set[str]
) -> Iterator[FoundFile | RejectedRecord]:
    """The objects that addresses, folders and globs of a store stand for, sorted within each, as `find_files` has it.

    Raises NoSourceError for an address at which there is nothing, or that cannot be reached, and ModuleNotFoundError as
    `open_found`.
    """
    seen: set[str] = set()
    for address in addresses:
        root, objects = _list(address)
        label = take_label(root.name or "root", labels)
        for remote, path in objects:
            inside = path.relative_to(root)
            uri = printable(f"{label}/{inside.as_posix()}" if inside.name else label)
            parts = [*reversed(inside.parents[:-1]), inside] if inside.name else []  # the folders around it, and it
            if reason := next(filter(None, (reason_by_name(part, exclude) for part in parts)), None):
                yield RejectedRecord(uri, reason)
            elif remote.address in seen:
                yield RejectedRecord(uri, "already read under another name")
            else:
                seen.add(remote.address)
                yield FoundFile(Path(path), uri, Path(inside if inside.name else path.name), label, remote=remote)


def _list(address: str) -> tuple[PurePosixPath, list[tuple[RemoteObject, PurePosixPath]]]:
    """The folder or the object that the address names, and what is there, each with its path."""
    system, path = _file_system(address)
    try:
        if system.isfile(path):  # also where its name has a bracket in it
            found = {path: system.info(path)}
        elif glob.has_magic(path):
            found = system.glob(path, detail=True)
        else:
            found = system.find(path, detail=True)  # all below a folder
    except Exception as error:  # each store has errors of its own
        raise NoSourceError(without_password(f"{address} cannot be listed: {type(error).__name__}: {error}")) from error
    objects = [
        (RemoteObject(system.unstrip_protocol(name), int(info.get("size") or 0), _version(info)), _path_of(name))
        for name, info in sorted(found.items())
        if info["type"] == "file"
    ]
    if not objects:
        raise NoSourceError(f"there is nothing at {without_password(address)}: correct the address or the glob")
    root = _path_of(path)
    if not any(each.is_relative_to(root) for _, each in objects):  # a glob
        root = PurePosixPath(*takewhile(lambda part: not glob.has_magic(part), root.parts))
    return root, objects


def _path_of(name: str) -> PurePosixPath:
    """The path of an object; of a store whose names are whole addresses the path in them."""
    return PurePosixPath(urlsplit(name).path if "://" in name else name)


def _version(info: Mapping[str, Any]) -> str:
    stated = {name.lower(): str(value) for name, value in info.items() if name.lower() in _VERSIONS}
    return "\0".join([str(info.get("size")), *(f"{name}={stated[name]}" for name in sorted(stated))])


class _Object:
    """The stream of an object, whose errors are of one type, so that no reader takes a dead line for a bad file."""

    def __init__(self, stream: Any, address: str) -> None:
        self._stream, self._address = stream, address

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except Exception as error:  # each store has errors of its own
            raise _unreachable(self._address, error) from error

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def _unreachable(address: str, error: Exception) -> UnreachableError:
    message = without_password(f"{address} could not be read: {type(error).__name__}: {error}")
    return UnreachableError(f"{message}. Run the command again when it can be reached: what was read is kept")


def _file_system(source: str) -> tuple[Any, str]:
    import fsspec

    try:
        return fsspec.core.url_to_fs(source)
    except ImportError as error:  # such as s3fs for s3://
        raise ModuleNotFoundError(without_password(f"reading {source} needs another package: {error}")) from error
    except ValueError as error:  # no such scheme
        raise NoSourceError(without_password(f"{source} is no address that fsspec knows: {error}")) from error
