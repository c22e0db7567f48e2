"""Zip and tar archives, written by `zipfile` and `tarfile`: what is in them, and what is wrong with them."""

import io
import stat
import struct
import tarfile
import zipfile
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_cases import (
    LIMITS,
    PATHS,
    SMALL,
    check_cuts,
    contents,
    flipped,
    kept,
    read_all,
    refused,
    tarred,
    trickle,
    zipped,
)
from lmworks.corpus.read.archives import read_tar, read_zip
from lmworks.corpus.read.container import Names, safe_name
from lmworks.corpus.read.record import Limits, Record, Refused

FILES = st.dictionaries(PATHS, st.binary(max_size=2000), max_size=5)
METHODS = st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
FORMATS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
COMMIT = "0123456789abcdef0123456789abcdef01234567"


# ---------------------------------------------------------------------------------------------------------------------
# What is in them


@given(FILES, METHODS)
def test_a_zip_file_is_read_back(files: dict[str, bytes], method: int) -> None:
    items = read_all(read_zip, zipped(files, method))
    assert contents(items) == files and len(items) == len(files)


@given(FILES, FORMATS)
def test_a_tar_archive_is_read_back_from_a_pipe(files: dict[str, bytes], form: int) -> None:
    folder = "" if form == tarfile.USTAR_FORMAT else "long/" * 20
    names = {f"{folder}{number}-{name.replace('/', '-')[:15]}": raw for number, (name, raw) in enumerate(files.items())}
    items = list(read_tar(trickle(tarred(names, form), 100), LIMITS))
    assert contents(items) == names and len(items) == len(files)


def test_records_tell_when_a_file_was_changed_and_what_it_is() -> None:
    (record,) = read_all(read_zip, zipped({"a/page.html": b"<p>"}))
    assert record == Record("a/page.html", b"<p>", "text/html", None, {"modified": "2024-02-29T12:30:58"})
    info = tarfile.TarInfo("a.md")
    info.mtime = datetime(2024, 2, 29, 12, tzinfo=UTC).timestamp()
    (record,) = read_all(read_tar, tarred([(info, b"# a")]))
    assert record == Record("a.md", b"# a", "text/markdown", None, {"modified": "2024-02-29T12:00:00+00:00"})


def test_archives_of_git_tell_their_commit() -> None:
    (record,) = read_all(read_tar, tarred({"a.c": b"int a;"}, pax_headers={"comment": COMMIT}))
    assert isinstance(record, Record)
    assert (record.metadata["commit"], record.media_type) == (COMMIT, "text/x-c")
    (record,) = read_all(read_zip, zipped({"a.c": b"int a;"}, comment=COMMIT.encode()))
    assert isinstance(record, Record) and record.metadata["commit"] == COMMIT
    (record,) = read_all(read_tar, tarred({"a.c": b"int a;"}, pax_headers={"comment": "no commit"}))
    assert isinstance(record, Record) and record.metadata == {}


def test_zip64_streamed_and_prefixed_archives_are_read() -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive, archive.open("a", "w", force_zip64=True) as member:
        member.write(b"of zip64")
    assert contents(read_all(read_zip, b"#!/bin/sh\nexit\n" + sink.getvalue())) == {"a": b"of zip64"}

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError

        def seek(self, *_: object) -> int:
            raise OSError

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:  # sizes come behind the data
        archive.writestr("a", b"streamed")
    assert contents(read_all(read_zip, pipe.getvalue())) == {"a": b"streamed"}


def test_a_directory_of_zip64_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)  # so that three files are too many for the old record
    assert contents(read_all(read_zip, zipped({"a": b"1", "b": b"2", "c": b"3"}))) == {"a": b"1", "b": b"2", "c": b"3"}


def test_a_name_in_an_old_code_page_is_decoded() -> None:
    raw = zipped({"aXb.txt": b"x"}).replace(b"aXb", b"a\x81b")
    assert list(contents(read_all(read_zip, raw))) == ["aüb.txt"]


# ---------------------------------------------------------------------------------------------------------------------
# Names


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a/b.txt", "a/b.txt"),
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("C:\\Users\\..\\a.txt", "Users/a.txt"),
        ("a//./b/../c", "a/b/c"),
        ("..", "unnamed"),
        ("", "unnamed"),
        ("a\nb\x00c", "a\\nb\\x00c"),
        ("a\udcffb", "a\\xffb"),
        ("héllo wörld.txt", "héllo wörld.txt"),
    ],
)
def test_names_lead_nowhere(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@given(st.text())
def test_every_name_becomes_a_relative_path(name: str) -> None:
    safe = safe_name("".join(character for character in name if not "\ud800" <= character <= "\udfff"))
    assert safe and not safe.startswith("/") and not {"", ".", ".."} & set(safe.split("/"))
    assert "\\" not in safe.replace("\\x", "").replace("\\n", "").replace("\\t", "").replace("\\r", "")


@given(st.lists(st.sampled_from(["a", "a (2)", "b"]), max_size=12))
def test_no_name_is_given_twice(names: list[str]) -> None:
    taken = Names()
    pairs = [(name, taken.unique(name)) for name in names]
    assert len({unique for _, unique in pairs}) == len(names)
    assert all(unique == name or unique.startswith(f"{name} (") for name, unique in pairs)


def test_members_of_one_name_are_all_kept() -> None:
    expected = {"a.txt": b"1", "a.txt (2)": b"2", "a.txt (3)": b"3"}
    members = [(tarfile.TarInfo("a.txt"), b"1"), (tarfile.TarInfo("./a.txt"), b"2"), (tarfile.TarInfo("/a.txt"), b"3")]
    assert contents(read_all(read_tar, tarred(members))) == expected
    assert contents(read_all(read_zip, zipped({"a.txt": b"1", "../a.txt": b"2", "./a.txt": b"3"}))) == expected


# ---------------------------------------------------------------------------------------------------------------------
# What is no file


def test_links_devices_and_folders_of_a_tar_archive() -> None:
    members = []
    for name, kind in (
        ("folder", tarfile.DIRTYPE), ("soft", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE),
        ("device", tarfile.CHRTYPE), ("disk", tarfile.BLKTYPE), ("pipe", tarfile.FIFOTYPE), ("odd", b"Z"),
    ):  # fmt: skip
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        members.append((info, b""))
    members.append((tarfile.TarInfo("last.txt"), b"last"))
    assert read_all(read_tar, tarred(members)) == [
        Refused("soft", "a link"),
        Refused("hard", "a link"),
        Refused("device", "a device"),
        Refused("disk", "a device"),
        Refused("pipe", "a pipe"),
        Refused("odd", "of the unknown type b'Z'"),
        Record("last.txt", b"last", "text/plain"),
    ]


def test_links_folders_and_secrets_of_a_zip_file() -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("folder/", b"")
        link = zipfile.ZipInfo("link")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        secret = zipfile.ZipInfo("secret.txt")
        archive.writestr(secret, b"x")
        secret.flag_bits |= 1  # what the directory says, which is written when the archive is closed
        other = zipfile.ZipInfo("other.txt")
        archive.writestr(other, b"x")
        other.compress_type = 9
        archive.writestr(zipfile.ZipInfo("last.txt"), b"last")
    assert read_all(read_zip, sink.getvalue()) == [
        Refused("link", "a link"),
        Refused("secret.txt", "encrypted"),
        Refused("other.txt", "compressed by Deflate64, which is not read: pack it anew with Deflate"),
        Record("last.txt", b"last", "text/plain"),
    ]


# ---------------------------------------------------------------------------------------------------------------------
# What is wrong with them


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_archive_that_is_cut_off_gives_what_came_before(form: int) -> None:
    second = "b.txt" if form == tarfile.USTAR_FORMAT else "x" * 120
    raw = tarred({"a.txt": b"a" * 700, second: b"b" * 10, "c.txt": b""}, form)
    check_cuts(read_tar, raw, 37)
    end = len(raw.rstrip(b"\0"))
    for cut in range(0, end, 61):
        assert len(refused(read_all(read_tar, raw[:cut]))) == 1
    assert [item.reason for item in refused(read_all(read_tar, raw[: -(-end // 512) * 512]))] == [
        "the mark at the end of the archive is missing: it may be cut off"
    ]


def test_a_zip_file_that_is_cut_off_has_no_directory() -> None:
    raw = zipped({"a.txt": b"a" * 100, "b.txt": b"b"})
    check_cuts(read_zip, raw)
    assert read_all(read_zip, raw[:-30]) == [Refused("", "a zip file without a central directory: it may be cut off")]
    assert read_all(read_zip, b"") == [Refused("", "a zip file without a central directory: it may be cut off")]
    assert "cannot be sought" in refused(read_zip(trickle(raw), LIMITS))[0].reason


@given(st.data())
def test_flipped_bytes_of_a_zip_file_do_no_harm(data: st.DataObject) -> None:
    files = {"a.txt": b"checked by a sum " * 9, "b/c.txt": b"of thirty-two bits", "d": b""}
    items = read_all(read_zip, data.draw(flipped(zipped(files))), SMALL)
    assert {item.content for item in kept(items) if isinstance(item, Record)} <= set(files.values())


@given(FORMATS, st.data())
def test_flipped_bytes_of_a_tar_archive_do_no_harm(form: int, data: st.DataObject) -> None:
    name = "é" * (40 if form == tarfile.USTAR_FORMAT else 70)
    read_all(read_tar, data.draw(flipped(tarred({"a.txt": b"a" * 700, name: b"b" * 9, "c": b""}, form))), SMALL)


def test_a_damaged_header_costs_one_member() -> None:
    raw = bytearray(tarred({"a.txt": b"a" * 600, "b.txt": b"b" * 600, "c.txt": b"c"}, tarfile.USTAR_FORMAT))
    raw[3 * 512] ^= 1  # the name of the second
    assert read_all(read_tar, bytes(raw)) == [
        Record("a.txt", b"a" * 600, "text/plain"),
        Refused("", "a damaged header in a tar archive, and what follows up to the next sound one"),
        Record("c.txt", b"c", "text/plain"),
    ]


def test_a_damaged_member_of_a_zip_file_costs_itself() -> None:
    raw = zipped({"a.txt": b"first", "b.txt": b"second", "c.txt": b"third"}, zipfile.ZIP_STORED)
    items = read_all(read_zip, raw.replace(b"second", b"sekond"))
    assert contents(items) == {"a.txt": b"first", "c.txt": b"third"}
    assert refused(items) == [
        Refused("b.txt", "a member of a zip file that does not have the size and checksum it declares")
    ]


def test_a_member_that_is_too_large_is_read_over() -> None:
    files = {"a.txt": b"a" * 1001, "b.txt": b"b" * 1000}
    for read, raw in ((read_zip, zipped(files)), (read_tar, tarred(files))):
        items = read_all(read, raw, SMALL)
        assert contents(items) == {"b.txt": b"b" * 1000}
        assert refused(items) == [Refused("a.txt", "larger than max_bytes = 1,000 bytes (1,001)")]


def test_no_more_records_are_read_than_asked_for() -> None:
    raw = tarred({str(number): b"" for number in range(5)})
    items = read_all(read_tar, raw, Limits(records=2))
    assert list(contents(items)) == ["0", "1"] and refused(items) == [Refused("", "what follows the first 2 records")]
    assert not refused(read_all(read_tar, raw, Limits(records=5)))


def test_a_sparse_file_is_refused_and_the_next_member_found() -> None:
    info = tarfile.TarInfo("holes")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    items = read_all(read_tar, tarred([(info, b"1\n0\n5\n" + bytes(506) + b"holes"), (tarfile.TarInfo("b"), b"b")]))
    assert refused(items) == [Refused("holes", "a sparse file")] and contents(items) == {"b": b"b"}


def test_a_header_that_wants_gigabytes_of_memory_is_read_over() -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type = tarfile.GNUTYPE_LONGNAME
    raw = tarred([(info, b"n" * 2_000_000), (tarfile.TarInfo("b"), b"b")], tarfile.GNU_FORMAT)
    items = read_all(read_tar, raw)
    assert refused(items) == [Refused("", "a header of 2,000,000 bytes in a tar archive")]
    assert contents(items) == {"b": b"b"}


def test_bytes_behind_the_end_are_told() -> None:
    assert refused(read_all(read_tar, tarred({"a": b"a"}) + b"more")) == [
        Refused("", "4 bytes behind the end of the archive")
    ]


def test_a_size_that_points_outside_ends_a_tar_archive() -> None:
    info = tarfile.TarInfo("huge.txt")
    info.size = 1 << 60
    raw = info.tobuf(tarfile.GNU_FORMAT) + b"little"
    (item,) = read_all(read_tar, raw, Limits(record_bytes=1 << 61))
    assert item == Refused("huge.txt", "ends before its declared length")


def test_sizes_of_zip_members_that_lie() -> None:
    raw = zipped({"a.txt": b"a" * 500})
    entry = raw.index(b"PK\1\2")
    for size, reason in ((499, "unpacks to more than the 499 bytes that it declares"), (501, "does not have the size")):
        lying = bytearray(raw)
        struct.pack_into("<I", lying, entry + 24, size)
        (item,) = read_all(read_zip, bytes(lying))
        assert isinstance(item, Refused) and item.name == "a.txt" and reason in item.reason
