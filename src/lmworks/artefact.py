"""Artefacts: folders that appear whole or not at all, know what they were made from, and are never made twice.

An artefact is a folder with a `manifest.json`. It is written under a temporary name, synced to the disk and renamed, so
a kill at any moment leaves either the whole artefact or none. Its `key` says what it would be made from (stage,
version, config, inputs, libraries) and decides whether it has to be made; its `content_hash` says what it holds, and
leaves times out: two artefacts are equal when their content hashes are equal.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lmworks.config import ConfigError, from_mapping, to_mapping
from lmworks.progress import Report, no_report
from lmworks.report import Section

T = TypeVar("T")

MANIFEST = "manifest.json"
STAGE_FOLDERS = "stages"  # in a workspace: a folder for each, with an artefact for each config and input
CURRENT = "current.json"  # in a workspace: which artefacts were built last
SECTIONS = "sections.json"  # what the stage reports; may hold times, so it is not part of the content
FILE_HASHES = "file-hashes"  # in a workspace: what stages have read from outside, by `FileHashes`
_SETTLED_NS = 2_000_000_000  # the coarsest clock of a file system: FAT's
REPORT = "report.html"  # the same, to be looked at


@dataclass(frozen=True, slots=True)
class Manifest:
    """Description of an artefact and of where it comes from; times in seconds."""

    stage: str  # what the stage runs, e.g. "retrieve.index"
    version: int
    key: str
    content_hash: str
    config: Mapping[str, Any]
    parents: Mapping[str, str]  # name of the input stage -> its content hash
    models: Mapping[str, str] = field(default_factory=dict)  # role -> digest of the checkpoint's files
    libraries: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)  # name -> digest of its content
    unhashed: tuple[str, ...] = ()  # files whose bytes may differ for equal content: not digested, or by what they mean
    metrics: Mapping[str, Any] = field(default_factory=dict)
    started: float = 0.0
    seconds: float = 0.0


class UnreachableError(RuntimeError):
    """Something that a stage needs from outside cannot be reached just now. The stage ends there, and continues when it
    is run again: a network that fails must not leave documents out of what is kept under the name of all of them."""


@dataclass(frozen=True, slots=True)
class StageContext:
    """Surroundings of a stage besides its config. It reads `inputs`, fills `output`, and touches nothing else."""

    inputs: Mapping[str, Path]  # name of the input stage -> its artefact's folder
    output: Path  # an empty folder, renamed into place when the stage returns
    work: Path  # scratch that survives a kill: partial results of the same key
    previous: Path | None = None  # the last artefact of this stage, under whatever key, to update from
    models: Mapping[str, str] = field(default_factory=dict)  # role -> name or path of a checkpoint
    base: Path = Path()  # folder of the recipe: relative paths in a config start there
    progress: Report = no_report

    def input(self, stage_file: str) -> Path:
        """The folder of the one input that holds `stage_file`; ValueError when there is none or more than one."""
        matching = [folder for folder in self.inputs.values() if (folder / stage_file).exists()]
        if len(matching) != 1:
            names = ", ".join(self.inputs) or "none"
            raise ValueError(f"expected exactly one input with {stage_file}, found {len(matching)} among: {names}")
        return matching[0]


@dataclass(frozen=True, slots=True)
class StageResult:
    """Result of a stage. `digests` replaces the hash of a file's bytes by a digest of what it means.

    A database, for example, may hold the same rows in another page order. None leaves a file of times out. `parents`
    are artefacts that it read and that are no inputs: a name → the content hash.
    """

    metrics: Mapping[str, Any] = field(default_factory=dict)
    sections: tuple[Section, ...] = ()
    digests: Mapping[str, str | None] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)


# ---------------------------------------------------------------------------------------------------------------------
# Hashes


def hash_json(value: Any) -> str:
    """SHA-256 of the canonical JSON of a value (keys sorted, no spaces; dataclasses as mappings)."""
    text = json.dumps(to_mapping(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def hash_fraction(digest: str) -> float:
    """A number in [0, 1) that a SHA-256 in hex decides for good, such as the side of a text where a share is held out:
    52 bits of it, which a float holds exactly."""
    return int(digest[:13], 16) / 16**13


def hash_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class FileHashes:
    """SHA-256 of files, kept in the file `path` so that what did not change is not read again.

    A file is the same where its path, size, inode and the times of its last change of content and of status are. Of one
    that changed less than two seconds before it was read nothing is kept: it could change again within the same tick of
    its file system's clock (as in git's index).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._known: dict[str, list[Any]] = read_json(path)
        except (OSError, ValueError):  # there is none yet, or nothing that helps
            self._known = {}
        self._seen: dict[str, list[Any]] = {}

    def of(self, file: Path) -> str:
        """Its hash; OSError where it cannot be read."""
        with file.open("rb") as stream:
            now, status, name = time.time_ns(), os.fstat(stream.fileno()), str(file.absolute())
            state = [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
            *known, digest = self._known.get(name, [None])
            if known != state:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if max(status.st_mtime_ns, status.st_ctime_ns) < now - _SETTLED_NS:
            self._seen[name] = [*state, digest]
        return digest

    def save(self) -> None:
        """Keep those that were asked for, and no others."""
        if self._seen != self._known:
            write_text(self._path, json.dumps(self._seen))


def library_versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of installed distributions, and of Python itself, which shapes every stage."""
    versions = {name: importlib.metadata.version(name) for name in sorted(names)}
    return {"python": platform.python_version(), **versions}


def content_digests(folder: Path, digests: Mapping[str, str | None]) -> dict[str, str]:
    """Relative file name -> digest for every file of an artefact but its manifest and its report."""
    result: dict[str, str] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name in (MANIFEST, SECTIONS, REPORT):
            continue
        digest = digests[name] if name in digests else hash_file(path)
        if digest is not None:
            result[name] = digest
    return result


def content_hash(stage: str, config: Any, parents: Mapping[str, str], files: Mapping[str, str]) -> str:
    return hash_json({"stage": stage, "config": config, "parents": parents, "files": files})


# ---------------------------------------------------------------------------------------------------------------------
# Files that appear whole or not at all


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader, or a kill, sees the old content or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8", errors="surrogatepass") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(to_mapping(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The value that `write_json` wrote, names of files that are no UTF-8 among it."""
    return json.loads(path.read_text("utf-8", "surrogatepass"))


def write_rows(path: Path, rows: Iterable[Any]) -> None:
    """Dataclasses as JSON lines."""
    write_text(path, "".join(json.dumps(to_mapping(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def append_row(path: Path, row: Any) -> None:
    """Add a line to a file of rows; returns when it is on the disk. Several processes may append."""
    import fcntl  # POSIX only, and only writers need it

    line = json.dumps(to_mapping(row), ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if end := stream.seek(0, os.SEEK_END):
            stream.seek(end - 1)
            line = line if stream.read() == b"\n" else b"\n" + line  # after the half of one
        stream.write(line + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    if not end:
        sync_folder(path.parent)


def read_rows(kind: type[T], path: Path) -> list[T]:
    """Rows that `write_rows` wrote; ConfigError with the line of one that is malformed."""
    rows = []
    for number, line in enumerate(path.read_text("utf-8").split("\n"), start=1):  # a text may hold other separators
        if line.strip():
            where = [f"{path}, line {number}"]
            try:
                rows.append(from_mapping(kind, json.loads(line), where))
            except json.JSONDecodeError as error:
                raise ConfigError(where, f"not JSON: {error}") from error
    return rows


def check_new(path: Path) -> None:
    """FileExistsError, with the fix, for a file or folder that is there already."""
    if path.exists() or path.is_symlink():
        raise FileExistsError(f"{path} exists already, and is never overwritten: choose a new name, or delete it first")


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary name next to `path`, to write to, which becomes `path` when the block ends well, and vanishes when it
    does not; FileExistsError, before and after, when something has the name already."""
    check_new(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        check_new(path)
        temporary.rename(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def publish(temporary: Path, final: Path) -> None:
    """Sync a finished file or folder to the disk, and rename it to its final name; FileExistsError where there is one.

    Its files become as readable as the folder: some libraries write theirs for the owner alone.
    """
    readable = temporary.stat().st_mode & 0o666
    for path in temporary.rglob("*"):
        if path.is_file():
            path.chmod(readable)
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        else:
            sync_folder(path)
    sync_folder(temporary)
    final.parent.mkdir(parents=True, exist_ok=True)
    check_new(final)
    temporary.rename(final)
    sync_folder(final.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def writing(final: Path) -> Iterator[Path]:
    """An empty folder next to `final` that becomes `final` when the block ends well, and vanishes when it does not."""
    temporary = final.with_name(f".{final.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # a leftover of a killed run: nobody else writes here under the lock
    temporary.mkdir(parents=True)
    try:
        yield temporary
        publish(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_manifest(
    folder: Path,
    stage: str,
    version: int,
    config: Any,
    parents: Mapping[str, str],
    digests: Mapping[str, str | None] = {},
    key: str = "",
    **others: Any,
) -> Manifest:
    """Hash what a stage made and write its manifest, the last of an artefact's files; `digests` are those of
    `StageResult`, `key` is the content hash unless given, and `others` are further fields."""
    files = content_digests(folder, digests)
    unhashed = tuple(name for name in sorted(digests) if (folder / name).is_file())
    digest = content_hash(stage, config, parents, files)
    hashes = {"files": files, "unhashed": unhashed}
    manifest = Manifest(stage, version, key or digest, digest, to_mapping(config), parents, **hashes, **others)
    write_json(folder / MANIFEST, manifest)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an artefact; FileNotFoundError when the folder is none."""
    return from_mapping(Manifest, read_json(folder / MANIFEST), [str(folder)])


def artefact_name(folder: Path, manifest: Manifest) -> str:
    """The name of an artefact for people: that of its stage in a workspace, where folders are named by keys; else of
    its folder."""
    return folder.parent.name if folder.name == manifest.key else folder.name


def manifests_around(folder: Path) -> Iterator[Path]:
    """The manifests of the artefacts of the workspace that an artefact is in; of one that was made alone, of those next
    to it."""
    stages = folder.parent.parent
    in_workspace = stages.name == STAGE_FOLDERS
    return stages.glob(f"*/[!.]*/{MANIFEST}") if in_workspace else folder.parent.glob(f"[!.]*/{MANIFEST}")


def known_artefacts(manifests: Iterable[Path]) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The artefacts of these manifests: content hash → folder; and a line for each manifest that cannot be read, which
    stops nobody who asks for another."""
    folders: dict[str, Path] = {}
    warnings = []
    for path in manifests:
        try:
            folders[read_manifest(path.parent).content_hash] = path.parent
        except (OSError, ValueError, TypeError, AttributeError):  # not there, not JSON, or JSON of another shape
            warnings.append(f"{path} is no manifest that can be read: it was left out")
    return folders, tuple(warnings)


class DamagedError(ValueError):
    """An artefact that does not hold what its manifest says; the message names the file and the fix."""


def verify(folder: Path, manifest: Manifest, progress: Report = no_report) -> None:
    """Compare the files of an artefact with the digests in its manifest; DamagedError names one that is not as it was.

    Everything is read once, at about the speed of the disk: far less than any stage takes that reads the same bytes,
    and the only way to notice a flipped bit or an edited row, which keep the size and may keep the time of the file.
    Files that the manifest does not list are an error, too, since some would be read; hidden ones are not.
    """
    present = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    remedy = f"copy the folder again, or rebuild it with the stage {manifest.stage}"
    for name in (*manifest.files, *manifest.unhashed):
        if name not in present:
            raise DamagedError(f"{folder / name} is missing: {remedy}")
    listed = {*manifest.files, *manifest.unhashed, MANIFEST, SECTIONS, REPORT}
    for name in present:
        if name not in listed and not any(segment.startswith(".") for segment in Path(name).parts):
            raise DamagedError(f"{folder / name} is no part of what the stage {manifest.stage} made: move it away")
    hashed = [name for name in manifest.files if name not in manifest.unhashed]
    total, done = sum(present[name].stat().st_size for name in hashed), 0
    for name in hashed:
        if hash_file(present[name]) != manifest.files[name]:
            raise DamagedError(
                f"{folder / name} is not what it was when it was made: it was changed or damaged; {remedy}"
            )
        done += present[name].stat().st_size
        progress(done, total, "bytes of the input checked")
    if content_hash(manifest.stage, manifest.config, manifest.parents, manifest.files) != manifest.content_hash:
        raise DamagedError(f"{folder / MANIFEST} does not have the hash that it records: {remedy}")


# ---------------------------------------------------------------------------------------------------------------------
# One writer at a time


class LockedError(RuntimeError):
    """Another process is writing this folder."""


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file for the block; a second holder gets `LockedError`, which names the first.

    The lock belongs to the open file, so the operating system frees it when its process dies in whatever way. A holder
    may delete the file: whoever opened it just before holds no lock then, and is refused as well.
    """
    import fcntl  # POSIX only, and only writers need it

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            raise LockedError(f"{path.parent} is in use by process {holder}; wait for it or stop it") from None
        if not path.exists() or not os.path.samestat(path.stat(), os.fstat(stream.fileno())):
            raise LockedError(f"{path.parent} was in use until this moment; start again")
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield
