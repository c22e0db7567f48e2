"""ZIP packages: what an archive says of itself is not trusted, and XML that declares entities is not parsed."""

import io
import struct
import zipfile
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.documents import UnusableError
from lmworks.corpus.extract.dates import iso_date
from lmworks.corpus.extract.package import open_package, parse_xml, read_part, resolve_part


def archive_of(content: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("part", content)
    return buffer.getvalue()


def test_a_part_is_read_up_to_its_limit() -> None:
    raw = archive_of(b"x" * 1000)
    assert read_part(open_package(raw), "part", 1000) == b"x" * 1000
    with pytest.raises(UnusableError, match="more than 999 bytes"):
        read_part(open_package(raw), "part", 999)
    with pytest.raises(UnusableError, match="no part other"):
        read_part(open_package(raw), "other")


def test_no_more_is_unpacked_than_the_archive_states() -> None:
    raw = bytearray(archive_of(b"x" * 1_000_000))
    entry = raw.index(b"PK\x01\x02")
    raw[entry + 24 : entry + 28] = struct.pack("<I", 1000)  # the size when unpacked
    with pytest.raises(UnusableError, match="damaged archive"):
        read_part(open_package(bytes(raw)), "part", 2000)


def test_methods_and_encryption_that_such_files_may_not_have_are_refused() -> None:
    with pytest.raises(UnusableError, match="packed by a method"):
        read_part(open_package(archive_of(b"x" * 1000, zipfile.ZIP_LZMA)), "part")
    raw = bytearray(archive_of(b"x" * 1000))
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(UnusableError, match="encrypted"):
        read_part(open_package(bytes(raw)), "part")


@given(st.binary(max_size=60), st.integers(0, 200), st.booleans())
def test_damage_is_a_reason_and_no_crash(garbage: bytes, position: int, cut: bool) -> None:
    raw = archive_of(b"<a>some content</a>" * 20)
    damaged = raw[: position % len(raw)] + garbage + (b"" if cut else raw[position % len(raw) + len(garbage) :])
    with suppress(UnusableError):
        parse_xml(read_part(open_package(damaged), "part"), "part")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
def test_declared_entities_are_refused_in_every_encoding(encoding: str) -> None:
    bomb = f"<?xml version='1.0' encoding='{encoding}'?><!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>".encode(encoding)
    with pytest.raises(UnusableError, match="declares entities"):
        parse_xml(bomb, "part")


@pytest.mark.parametrize("raw", [b"", b"<a>", b"<a></b>", b"\xff\xfe", b"<?xml version='1.0' encoding='none'?><a/>"])
def test_what_is_not_well_formed_is_refused(raw: bytes) -> None:
    with pytest.raises(UnusableError, match="not well-formed"):
        parse_xml(raw, "part")


def test_deep_elements_are_parsed() -> None:
    root = parse_xml(b"<a>" * 100_000 + b"</a>" * 100_000, "part")
    assert sum(1 for _ in root.iter()) == 100_000


def test_references_stay_in_the_archive() -> None:
    assert resolve_part("word", "styles.xml") == "word/styles.xml"
    assert resolve_part("a/b", "../c/./d.xml") == "a/c/d.xml"
    assert resolve_part("word", "/docProps/core.xml") == "docProps/core.xml"
    for reference in ("../../etc/passwd", "/../x", "..\\x", "http://example.org/x"):
        with pytest.raises(UnusableError, match="out of the archive"):
            resolve_part("word", reference)


@pytest.mark.parametrize(
    ("stated", "date"),
    [
        ("2024-01-31T10:00:00Z", "2024-01-31"),
        ("D:20240131120000+01'00'", "2024-01-31"),
        ("2024-02", "2024-02"),
        (" 1901", "1901"),
        ("2024-02-30", ""),
        ("0000", ""),
        ("January 2024", ""),
        ("", ""),
    ],
)
def test_dates_are_iso_8601_as_exact_as_they_are_stated(stated: str, date: str) -> None:
    assert iso_date(stated) == date
