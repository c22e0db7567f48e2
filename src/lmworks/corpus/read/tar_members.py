"""The members of a tar archive as a stream, without a seek, in bounded memory (POSIX.1-2017, `pax`; the GNU format).

`tarfile` reads the header blocks; walking from one to the next is here, because `tarfile` ends without a word at a
header that is damaged, keeps every member it has seen, and takes extended headers of any size into memory.
"""

import io
import re
import tarfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from lmworks.corpus.read.container import Member, Names, safe_name
from lmworks.corpus.read.record import Refused
from lmworks.corpus.read.streams import PIECE, DamagedError, Portion, skip

_BLOCK = tarfile.BLOCKSIZE
_EXTENSION_BYTES = 1 << 20  # of an extended header or a long name
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")  # SHA-1 or SHA-256, as `git archive` leaves it in the comment
_PAX_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_KEPT = (b"comment", b"mtime", b"path", b"size")  # of the records of extended headers
_LONG_NAMES = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}
_NOT_FILES = {
    tarfile.LNKTYPE: "a link",
    tarfile.SYMTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


def tar_members(stream: io.BufferedReader) -> Iterator[Member | Refused]:
    """The regular files of the archive, in order; folders are passed over, links and devices are refused.

    A damaged header costs what lies between it and the next sound one. Raises DamagedError where a member is cut off.
    """
    names = Names()
    archive: dict[str, str] = {}  # the global extended header: for all members that follow
    extended: dict[str, str] = {}  # for the next member
    while block := stream.read(_BLOCK):
        if not block.strip(b"\0"):
            yield from _behind_the_end(stream)
            return
        if (info := _header(block)) is None:
            yield Refused("", "a damaged header in a tar archive, and what follows up to the next sound one")
            extended = {}
            block, info = _next_header(stream)
            if info is None:
                return
        if info.type in _PAX_HEADERS or info.type in _LONG_NAMES:
            read = _extension(stream, info)
            if read is None:
                yield Refused("", f"a header of {info.size:,} bytes in a tar archive")
            else:
                (archive if info.type == tarfile.XGLTYPE else extended).update(read)
            continue
        yield from _member(stream, block, info, archive | extended, names)
        extended = {}
    yield Refused("", "the mark at the end of the archive is missing: it may be cut off")


def _header(block: bytes) -> tarfile.TarInfo | None:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return None
    return info if info.size >= 0 else None


def _next_header(stream: io.BufferedReader) -> tuple[bytes, tarfile.TarInfo | None]:
    """The next block that is a header of POSIX or GNU tar; None where there is none."""
    while block := stream.read(_BLOCK):
        if block.startswith(b"ustar", 257) and (info := _header(block)) is not None:
            return block, info
    return b"", None


def _extension(stream: io.BufferedReader, info: tarfile.TarInfo) -> dict[str, str] | None:
    if info.size > _EXTENSION_BYTES:
        Portion(stream, _padded(info.size)).skip()
        return None
    content = stream.read(_padded(info.size))
    if len(content) < info.size:
        raise DamagedError("a tar archive that ends early")
    content = content[: info.size]
    if key := _LONG_NAMES.get(info.type):
        return {key: content.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    return _pax_records(content)


def _pax_records(content: bytes) -> dict[str, str]:
    """`length key=value\\n`, as often as there are, up to a broken one; `sparse` where a record describes holes."""
    records: dict[str, str] = {}
    position = 0
    while (space := content.find(b" ", position, position + 20)) > 0 and content[position:space].isdigit():
        end = position + int(content[position:space])
        key, equals, value = content[space + 1 : end - 1].partition(b"=")
        if not equals or content[end - 1 : end] != b"\n":
            break
        if key in _KEPT:
            records[key.decode()] = value.decode("utf-8", "surrogateescape")
        elif key.startswith(b"GNU.sparse."):
            records["sparse"] = "yes"
        position = end
    return records


def _member(
    stream: io.BufferedReader, block: bytes, info: tarfile.TarInfo, extended: Mapping[str, str], names: Names
) -> Iterator[Member | Refused]:
    name = safe_name(extended.get("path", info.name))
    if info.type == tarfile.DIRTYPE:
        return
    if kind := _NOT_FILES.get(info.type):
        yield Refused(name, kind)
        return
    if info.type == tarfile.GNUTYPE_SPARSE:
        _skip_sparse_map(stream, block)
    size = extended.get("size", str(info.size))
    if not (size.isascii() and size.isdigit() and len(size) < 20):
        raise DamagedError(f"{name}: a tar archive with a size that is no number")
    portion = Portion(stream, int(size))
    if info.type == tarfile.GNUTYPE_SPARSE or "sparse" in extended:
        yield Refused(name, "a sparse file")
    elif info.type not in tarfile.REGULAR_TYPES:
        yield Refused(name, f"of the unknown type {info.type!r}")
    else:
        yield Member(names.unique(name), io.BufferedReader(portion, PIECE), int(size), _metadata(info, extended))
    portion.skip()
    if skip(stream, -int(size) % _BLOCK):
        raise DamagedError("a tar archive that ends early")


def _skip_sparse_map(stream: io.BufferedReader, block: bytes) -> None:
    """The blocks of holes behind the header of a sparse file; a byte of each says whether another one follows."""
    follows = block[482]
    while follows and (block := stream.read(_BLOCK)):
        follows = len(block) == _BLOCK and block[504]


def _metadata(info: tarfile.TarInfo, extended: Mapping[str, str]) -> dict[str, str]:
    metadata: dict[str, str] = {}
    try:
        if (seconds := float(extended.get("mtime", info.mtime))) > 0:
            metadata["modified"] = datetime.fromtimestamp(int(seconds), UTC).isoformat()
    except (ValueError, OverflowError, OSError):  # no time that a calendar has
        pass
    if _COMMIT.fullmatch(commit := extended.get("comment", "")):
        metadata["commit"] = commit
    return metadata


def _behind_the_end(stream: io.BufferedReader) -> Iterator[Refused]:
    """To the very end of the stream, whose checksum is only then looked at."""
    other = 0
    while piece := stream.read(PIECE):
        other += len(piece) - piece.count(0)
    if other:
        yield Refused("", f"{other:,} bytes behind the end of the archive")


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
