"""Which files a source stands for, in a fixed order, each with a uri that no other source can give."""

import fnmatch
import glob
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path, PurePath

from lmworks.corpus.documents import made_folder, no_documents_message, shard_paths
from lmworks.corpus.extract.charset import printable
from lmworks.records import RejectedRecord

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_HERE = re.compile("(?:file|local)://", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/?#\s]*@")  # up to the last @: a password may hold one
WORKSPACE_MARK = "build.lock"  # a folder with this file is a workspace: reading it would feed the system its own output


class NoSourceError(ValueError):
    """A source that stands for no file at all; the message says what to change."""


@dataclass(frozen=True, slots=True)
class RemoteObject:
    """An object of a store: its address, its bytes where the store tells them, else 0, and what it has instead of a
    hash, which changes with the content."""

    address: str
    size: int
    version: str


@dataclass(frozen=True, slots=True)
class FoundFile:
    """`made`: it is a shard of documents, which a stage wrote; the name of the source, where there is one, then stands
    before their uris. Of a `remote` one the path is that within its store."""

    path: Path
    uri: str  # the name of the source, then the path inside it
    relative: Path  # the path inside the source
    source: str  # its name; "" for a shard of documents, which keep theirs
    made: bool = False
    remote: RemoteObject | None = None


def is_url(source: str) -> bool:
    """Whether it begins with a scheme of another place than this machine; `C:/docs` and `file:///docs` do not."""
    return _SCHEME.match(source) is not None and _HERE.match(source) is None


def without_password(message: str) -> str:
    """A message without the names and passwords that addresses in it may hold."""
    return _USER.sub("", message)


def without_scheme(source: str) -> str:
    """The path of `file:///docs`; any other source as it is."""
    return _HERE.sub("", source)


def find_files(
    sources: Sequence[str], exclude: Sequence[str], base: Path, labels: set[str] | None = None
) -> Iterator[FoundFile | RejectedRecord]:
    """Every regular file of the sources, sorted within each; a file that two sources share belongs to the first.

    Of a folder that a stage made, or a workspace, these are the shards of its documents. They keep their uris where
    there is no other source, and have the name of the folder in front of them otherwise, so that no two are equal.

    A folder that is left out is one `RejectedRecord`, and nobody looks into it: how many files it has would change with
    every commit or build, and with it what was read. Links to files are followed, links to folders are not, so that no
    loop can arise. `labels` are the names of sources that are taken; those of these are added, and without them these
    sources are all.

    Raises NoSourceError for a source that does not exist or matches none.
    """
    alone = len(sources) == 1 and labels is None
    labels = set() if labels is None else labels
    seen: set[Path] = set()
    for source in sources:
        root, names, folder = _resolve(source, base)
        label = take_label(printable(root.name) or "root", labels)
        if folder is not None:
            prefix = "" if alone else f"{label}/"
            for inside in names:
                uri = prefix + inside.as_posix()
                yield FoundFile(folder / inside, uri, inside, "" if alone else label, made=True)
            continue
        skip = cache(partial(_reason_to_skip, root, exclude, True))
        for relative in names:  # a glob looks into all folders, also where a walk would not have come
            if reason := next(filter(None, map(skip, reversed(relative.parents))), None):
                yield RejectedRecord(printable(f"{label}/{relative.as_posix()}"), reason)
            else:
                yield from _visit(root, relative, label, exclude, seen)


def check_sources(sources: Sequence[str], base: Path) -> None:
    """NoSourceError as `find_files`, without visiting any folder."""
    for source in sources:
        _resolve(source, base)


def _resolve(source: str, base: Path) -> tuple[Path, list[Path], Path | None]:
    """The folder or file a source starts from, and the paths in it to visit ("." for all of it); of what a stage made
    the shards, and their folder."""
    if not source.strip():
        raise NoSourceError("a source is empty: name a folder, a file or a glob; the folder itself is called .")
    if is_url(source):
        raise NoSourceError(
            f"{without_password(source)} is an address, which only corpus.read takes: name a folder, a file or a glob"
        )
    written = Path(without_scheme(source)).expanduser()
    path = base / written
    root, names = path, [Path()]
    if not path.exists():
        if not glob.has_magic(str(written)):
            raise NoSourceError(
                f"there is no {path}: name a folder, a file or a glob such as 'data/**/*{path.suffix or '.md'}'"
            )
        fixed = next(number for number, part in enumerate(written.parts) if glob.has_magic(part))
        root = base / Path(*written.parts[:fixed])  # a bracket in the name of `base` is none of a glob
        matches = sorted(root.glob(str(Path(*written.parts[fixed:]))))
        names = [match.relative_to(root) for match in matches if not match.is_dir()]
        if not names:
            raise NoSourceError(f"no file matches {path}: correct the glob, or name a folder")
    root = root.resolve()
    folder = made_folder(root)
    if folder is None and (path / WORKSPACE_MARK).exists():
        raise NoSourceError(f"{path} is a workspace in which no documents were made yet: build it to its end first")
    if folder is not None and not (names := [shard.relative_to(folder) for shard in shard_paths(folder)]):
        raise NoSourceError(no_documents_message(folder))
    return root, names, folder


def take_label(name: str, taken: set[str]) -> str:
    """`name`, or `name-2`, `name-3`, … when an earlier source has it; it is added to those that are taken."""
    candidates = (name if number == 1 else f"{name}-{number}" for number in range(1, len(taken) + 2))
    label = next(candidate for candidate in candidates if candidate not in taken)
    taken.add(label)
    return label


def _visit(
    root: Path, relative: Path, label: str, exclude: Sequence[str], seen: set[Path]
) -> Iterator[FoundFile | RejectedRecord]:
    waiting = [relative]
    while waiting:  # no recursion: folders may lie in each other deeper than Python calls functions
        relative = waiting.pop()
        path, inside = root / relative, relative.as_posix()
        uri = printable(label if inside == "." else f"{label}/{inside}")
        is_folder = False
        try:
            is_folder = stat.S_ISDIR(path.stat().st_mode)
            reason = _reason_to_skip(root, exclude, is_folder, relative)
            names = sorted(child.name for child in path.iterdir()) if is_folder and not reason else []
        except OSError as error:
            reason = "broken symbolic link" if path.is_symlink() else f"unreadable: {error.strerror or error}"
            yield RejectedRecord(f"{uri}/" if is_folder else uri, reason)
            continue
        if not reason and not is_folder:
            real = path.resolve()
            if not path.is_file():
                reason = "not a regular file"
            elif real in seen:
                reason = "already read under another name"
            else:
                seen.add(real)
                yield FoundFile(path, uri, relative if inside != "." else Path(path.name), label)
        if reason:
            yield RejectedRecord(f"{uri}/" if is_folder else uri, reason)
        waiting += [relative / name for name in reversed(names)]


def _reason_to_skip(root: Path, exclude: Sequence[str], is_folder: bool, relative: Path) -> str | None:
    """Why a path is left out by rule; the root of a source, which the user named, never is."""
    if not relative.name:
        return None
    path = root / relative
    if reason := reason_by_name(relative, exclude):
        return reason
    if is_folder and path.is_symlink():
        return "a symbolic link to a folder; name the folder itself as a source"
    if is_folder and (path / WORKSPACE_MARK).exists():
        return "an lmworks workspace"
    if is_folder and made_folder(path) is not None:
        return "documents that a stage made; name the folder as a source of its own"
    return None


def reason_by_name(relative: PurePath, exclude: Sequence[str]) -> str | None:
    """Why what is called so within a source is left out."""
    for pattern in exclude:
        if fnmatch.fnmatchcase(relative.as_posix() if "/" in pattern else relative.name, pattern):
            return f"excluded by {pattern}"
    return "hidden" if relative.name.startswith(".") else None
