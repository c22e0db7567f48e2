"""ZIP packages with XML parts (DOCX, EPUB): reading a part costs no more than it says, and no entity is declared."""

import io
import lzma
import posixpath
import struct
import zipfile
import zlib
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from lmworks.corpus.documents import UnusableError

MAX_PART_BYTES = 64 << 20  # the longest novels are below 20 MiB as XML
_FREE = 4 << 20  # bytes that a part may unpack to, however small it is packed
_RATIO = 100  # times its size that a larger one may unpack to; XML comes to 20
_MAX_PARTS = 50_000
_MAX_TAGS = 5_000_000  # of a part, for each of which the parser takes 200 bytes and more
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # all that OPC (ISO 29500-2) and EPUB OCF allow
_ENCRYPTED = 0x1  # bit 0 of the general purpose flags
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,  # NotImplementedError among them
    ValueError,
)


def open_package(raw: bytes) -> zipfile.ZipFile:
    """The archive in memory. Raises UnusableError when it is none, or has more parts than a document can have."""
    if (count := raw.count(b"PK\1\2")) > 2 * _MAX_PARTS:  # before `zipfile` makes an object of a kilobyte for each
        raise UnusableError(f"more than {_MAX_PARTS:,} parts in the archive ({count:,})")
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
    except _DAMAGE as error:
        raise UnusableError("no ZIP archive, or a damaged one") from error
    if len(archive.filelist) > _MAX_PARTS:
        raise UnusableError(f"more than {_MAX_PARTS:,} parts in the archive ({len(archive.filelist):,})")
    return archive


def has_part(archive: zipfile.ZipFile, name: str) -> bool:
    return name in archive.NameToInfo


def part_size(archive: zipfile.ZipFile, name: str) -> int:
    """Bytes of a part when unpacked, as the archive says; 0 for a part that it does not have."""
    return archive.NameToInfo[name].file_size if has_part(archive, name) else 0


def read_part(archive: zipfile.ZipFile, name: str, max_bytes: int = MAX_PART_BYTES) -> bytes:
    """The bytes of a part. Raises UnusableError: absent, encrypted, larger than `max_bytes`, a bomb, or damaged.

    The size that the archive states is an upper limit even when it lies, because no more than that is unpacked.
    """
    info = archive.NameToInfo.get(name)
    if info is None:
        raise UnusableError(f"no part {name} in the archive")
    if info.flag_bits & _ENCRYPTED:
        raise UnusableError("encrypted")
    if info.compress_type not in _COMPRESSIONS:
        raise UnusableError(f"{name} is packed by a method that such a file may not use ({info.compress_type})")
    if info.file_size > max_bytes:
        raise UnusableError(f"{name} unpacks to more than {max_bytes:,} bytes ({info.file_size:,})")
    packed = min(info.compress_size, archive.start_dir)  # it cannot be more than lies before the directory
    if info.file_size > max(_FREE, _RATIO * packed):
        raise UnusableError(f"{name} unpacks to more than {_RATIO} times its size")
    try:
        with archive.open(info) as stream:
            return stream.read(info.file_size)  # read() without a size would inflate up to 2 GiB before it cuts
    except _DAMAGE as error:
        raise UnusableError(f"damaged archive: {name}") from error


def parse_xml(raw: bytes, name: str) -> Element:
    """The root element. Raises UnusableError for XML that is not well-formed, or that declares entities.

    Entities of an own making serve no document of these formats, only attacks ("billion laughs", external files).
    Zero bytes are left out of the search, so that it finds the declaration in UTF-16 as well; the parser reads no
    encoding in which these characters are other bytes.
    """
    if b"<!ENTITY" in raw.replace(b"\0", b""):
        raise UnusableError(f"{name} declares entities")
    if (count := raw.count(b"<")) > _MAX_TAGS:
        raise UnusableError(f"{name} has more than {_MAX_TAGS:,} tags ({count:,})")
    try:
        return ElementTree.fromstring(raw)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # LookupError: an unknown encoding
        raise UnusableError(f"{name} is not well-formed XML") from error


def local_name(name: str) -> str:
    """`p` of `{namespace}p`: the two editions of OOXML differ in namespaces alone."""
    return name.rpartition("}")[2]


def attribute(element: Element, name: str) -> str | None:
    """The value of an attribute by its local name, in whatever namespace."""
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] == name:
            return value
    return None


def resolve_part(folder: str, reference: str) -> str:
    """The name of the part that a reference from a file of `folder` points to. UnusableError when it leads outside."""
    absolute = reference.startswith("/")
    name = posixpath.normpath(reference.lstrip("/") if absolute else posixpath.join(folder, reference))
    if name.startswith(("..", "/")) or "\\" in name or "://" in reference:
        raise UnusableError(f"a reference out of the archive: {reference[:80]}")
    return name
