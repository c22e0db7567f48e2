"""API keys: made once, shown once, kept as hashes.

A key is 256 random bits, so SHA-256 is enough: a slow hash protects passwords, which can be guessed, and these cannot.
"""

import hashlib
import hmac
import json
import os
import secrets
import tempfile
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lmworks.artefact import lock
from lmworks.config import from_mapping, to_mapping

PREFIX = "lmw-"
_NAME_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Key:
    """An entry of the file: SHA-256 of the key as hexadecimal digits, its last four characters, and when it was made.

    `created` is ISO 8601, in UTC.
    """

    name: str
    hash: str
    hint: str
    created: str


@dataclass(frozen=True, slots=True)
class _File:
    keys: tuple[Key, ...]


def add(file: Path, name: str) -> str:
    """Make a key under a name of its own and return it; it cannot be shown again.

    The file is made, readable by its owner alone, when there is none. ValueError for a name that is taken or unusable.
    """
    if not name.strip() or not name.isprintable() or len(name) > _NAME_LENGTH:
        raise ValueError(f"a key needs a name of at most {_NAME_LENGTH} printable characters, got {name!r}")
    with _locked(file):
        keys = read(file) if file.exists() else ()
        if any(key.name == name for key in keys):
            raise ValueError(f"{file} has a key named {name!r} already; revoke it first, or choose another name")
        secret = PREFIX + secrets.token_urlsafe(32)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        _write(file, (*keys, Key(name, digest(secret), secret[-4:], created)))
    return secret


def revoke(file: Path, name: str) -> None:
    """Forget a key, which a running server refuses from then on; ValueError when there is none of this name."""
    with _locked(file):
        keys = read(file)
        remaining = tuple(key for key in keys if key.name != name)
        if len(remaining) == len(keys):
            raise ValueError(
                f"{file} has no key named {name!r}; it has {', '.join(key.name for key in keys) or 'none'}"
            )
        _write(file, remaining)


def read(file: Path) -> tuple[Key, ...]:
    """The keys, oldest first. FileNotFoundError, naming the command to run; ConfigError for a file of another form."""
    try:
        content = file.read_text("utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file of keys {file}; make a first one with `lmworks keys add`") from None
    try:
        mapping = json.loads(content)
    except ValueError as error:
        raise ValueError(f"{file} is no file of keys: {error}") from None
    return from_mapping(_File, mapping, [str(file)]).keys


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class KeyRing:
    """The keys of a file that is read again when it changes: what is revoked is refused at once."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._keys = read(file)
        self._stamp = self._state()

    def verify(self, secret: str) -> Key | None:
        """The key that this is; every hash is compared in constant time, whichever matches."""
        hashed = digest(secret)
        verified = None
        for key in self.current():
            if hmac.compare_digest(key.hash, hashed):
                verified = key
        return verified

    def current(self) -> tuple[Key, ...]:
        """The keys as the file has them now; none when it is gone or cannot be read."""
        stamp = self._state()
        if stamp != self._stamp:
            try:
                self._keys = read(self._file)
            except (OSError, ValueError):
                self._keys = ()
            self._stamp = stamp
        return self._keys

    def _state(self) -> tuple[int, int, int] | None:
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def _locked(file: Path) -> AbstractContextManager[None]:
    file.parent.mkdir(parents=True, exist_ok=True)
    return lock(file.with_name(f".{file.name}.lock"))


def _write(file: Path, keys: tuple[Key, ...]) -> None:
    """Whole or not at all; `mkstemp` makes its file readable by the owner alone."""
    handle, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(to_mapping(_File(keys)), stream, indent=1, ensure_ascii=False)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
