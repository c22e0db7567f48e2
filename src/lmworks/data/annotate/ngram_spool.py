"""Texts on the disk while a model learns, which goes through them twice: they may be more than the memory holds."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Self


class Spool:
    """A temporary file of texts; gone when the block ends. A text of nothing but spaces is not kept.

    hashes  Of each text, SHA-256.
    """

    def __init__(self) -> None:
        self.hashes: list[bytes] = []
        self._sizes: list[int] = []

    def __enter__(self) -> Self:
        self._stream: IO[bytes] = tempfile.TemporaryFile()
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def add(self, text: str) -> None:
        if not text.strip():
            return
        data = text.encode("utf-8", "surrogatepass")
        self._stream.write(data)
        self.hashes.append(hashlib.sha256(data).digest())
        self._sizes.append(len(data))

    def where(self, wanted: Callable[[bytes], bool]) -> "Spooled":
        """The texts whose hash is wanted; to be gone through as often as one likes while the block lasts."""
        return Spooled(self, [wanted(found) for found in self.hashes])

    def read(self, chosen: list[bool]) -> Iterator[str]:
        self._stream.flush()
        place = 0
        for size, is_chosen in zip(self._sizes, chosen, strict=True):
            if is_chosen:
                self._stream.seek(place)
                yield self._stream.read(size).decode("utf-8", "surrogatepass")
            place += size


class Spooled:
    """Some texts of a spool, in their order."""

    def __init__(self, spool: Spool, chosen: list[bool]) -> None:
        self._spool, self._chosen = spool, chosen

    def __len__(self) -> int:
        return sum(self._chosen)

    def __iter__(self) -> Iterator[str]:
        return self._spool.read(self._chosen)
