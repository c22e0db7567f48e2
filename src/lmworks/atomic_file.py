"""A file that appears whole or not at all, and never in the place of another."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a temporary name next to `path` to write to; at the end it gets its name, after an error it is removed.

    Raises FileExistsError, before and after, when something has the name already.
    """
    _refuse(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # unlike a renaming, it fails when the name is taken
        except FileExistsError:
            _refuse(path)
            raise
        except OSError:  # a file system without hard links
            _refuse(path)
            temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def _refuse(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise FileExistsError(f"{path} exists already; remove it, or give another name")
