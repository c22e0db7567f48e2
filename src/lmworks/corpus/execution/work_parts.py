"""Parts of work: what one call works on, and what it makes, whole or not at all."""

import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Part(Generic[P]):
    """The work of one call, and what it makes: a file, or a folder of files.

    size      For the progress, in the unit of the whole.
    consumes  A file that was made for this part alone, and goes when the part is done.
    """

    given: P
    done: Path
    size: int = 1
    consumes: Path | None = None


Work = Callable[[P, Path], None]  # (given, where to write): a function of a module, so that other processes find it


@dataclass(frozen=True, slots=True)
class Prepared(Generic[P]):
    """Work that needs something which is made once in each process, such as another process or a table: `prepare` gives
    the function of a part, and what it needs goes with the context."""

    prepare: Callable[[], AbstractContextManager[Work[P]]]


def prepared(work: Work[P] | Prepared[P]) -> AbstractContextManager[Work[P]]:
    """A context with the function of a part."""
    return work.prepare() if isinstance(work, Prepared) else nullcontext(work)


def do_part(work: Work[P], part: Part[P]) -> None:
    """Under a name of its own until it is whole and on the disk: two processes may do one part, and both be right."""
    if part.done.exists():  # made by a process that died after it had published it
        return
    temporary = part.done.with_name(f".{part.done.name}.{secrets.token_hex(4)}.tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        work(part.given, temporary)
        for path in (temporary, *temporary.rglob("*")):
            _sync(path)
        try:
            temporary.rename(part.done)
        except OSError:
            if not part.done.exists():  # else another process was first, with the same
                raise
    finally:
        delete(temporary)
    if part.consumes is not None:
        part.consumes.unlink(missing_ok=True)


def delete(path: Path) -> None:
    """Delete a file, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
