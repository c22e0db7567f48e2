"""Zip, tar and compressed streams, written by the standard library: what is in them, what is wrong with them, and what
they may cost."""

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from kit.containers import (
    PATHS,
    SMALL,
    check_cuts,
    contents,
    items_of,
    kept,
    peak_below,
    rejected,
    tarred,
    zeros_deflated,
    zipped,
)
from kit.tables import for_each
from lmworks.corpus.read.record import Names, Record, safe_name
from lmworks.records import RejectedRecord

FILES = st.dictionaries(PATHS, st.binary(max_size=2000), max_size=5)
METHODS = st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
FORMATS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PACKINGS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def named(files: dict[str, bytes]) -> dict[str, bytes]:
    """Names that no reader opens as containers."""
    return {f"{number}-{name}.bin": raw for number, (name, raw) in enumerate(files.items())}


@given(FILES, METHODS)
def test_a_zip_file_is_read_back(files: dict[str, bytes], method: int) -> None:
    files = {name: b"." + raw for name, raw in named(files).items()}
    items = items_of("a.zip", zipped(files, method))
    assert contents(items) == files and len(items) == len(files)


@given(FILES, FORMATS)
def test_a_tar_archive_is_read_back(files: dict[str, bytes], form: int) -> None:
    folder = "" if form == tarfile.USTAR_FORMAT else "long/" * 20
    numbered = enumerate(files.items())
    names = {f"{folder}{number}-{name.replace('/', '-')[:15]}.bin": b"." + raw for number, (name, raw) in numbered}
    items = items_of("a.tar", tarred(names, form))
    assert contents(items) == names and len(items) == len(files)


def test_records_tell_when_a_file_was_changed_and_of_which_commit_it_is() -> None:
    (record,) = items_of("a.zip", zipped({"a/page.html": b"<p>"}, comment=COMMIT.encode()))
    metadata = {"commit": COMMIT, "modified": "2024-02-29T12:30:58"}
    assert record == Record("a/page.html", b"<p>", "text/html", None, metadata)
    info = tarfile.TarInfo("a.md")
    info.mtime = datetime(2024, 2, 29, 12, tzinfo=UTC).timestamp()
    (record,) = items_of("a.tar", tarred([(info, b"# a")], pax_headers={"comment": COMMIT}))
    metadata = {"commit": COMMIT, "modified": "2024-02-29T12:00:00+00:00"}
    assert record == Record("a.md", b"# a", "text/markdown", None, metadata)
    (record,) = items_of("a.tar", tarred({"a.c": b"int a;"}, pax_headers={"comment": "no commit"}))
    assert isinstance(record, Record) and record.metadata == {}


@given(st.binary(max_size=2000), st.binary(max_size=300), st.sampled_from(list(PACKINGS)))
def test_compressed_streams_one_after_the_other_are_read_back(first: bytes, second: bytes, suffix: str) -> None:
    pack = PACKINGS[suffix]
    for between in (b"", bytes(512)):  # zeros are padding
        (record,) = items_of(f"a.bin.{suffix}", pack(b"." + first) + between + pack(second))
        assert isinstance(record, Record) and record.content == b"." + first + second


@for_each(
    ("name", "safe"),
    [
        ("a/b.txt", "a/b.txt"), ("../../etc/passwd", "etc/passwd"), ("C:\\Users\\..\\a.txt", "Users/a.txt"),
        ("a//./b/../c", "a/b/c"), ("..", "unnamed"), ("", "unnamed"), ("a\nb\x00c", "a\\nb\\x00c"),
        ("a\udcffb", "a\\xffb"), ("héllo wörld.txt", "héllo wörld.txt"),
    ],
)  # fmt: skip
def test_names_lead_nowhere(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@given(st.lists(st.sampled_from(["a", "a (2)", "b"]), max_size=12))
def test_no_name_is_given_twice(names: list[str]) -> None:
    taken = Names()
    pairs = [(name, taken.unique(name)) for name in names]
    assert len({unique for _, unique in pairs}) == len(names)
    assert all(unique == name or unique.startswith(f"{name} (") for name, unique in pairs)


def test_links_devices_and_folders_of_a_tar_archive() -> None:
    members = []
    for name, kind in (
        ("folder", tarfile.DIRTYPE), ("soft", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE),
        ("device", tarfile.CHRTYPE), ("pipe", tarfile.FIFOTYPE), ("odd", b"Z"),
    ):  # fmt: skip
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        members.append((info, b""))
    holes = tarfile.TarInfo("holes")
    holes.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "holes"}
    members += [(holes, b"1\n0\n5\n" + bytes(506) + b"holes"), (tarfile.TarInfo("last.txt"), b"last")]
    reasons = dict.fromkeys(("soft", "hard"), "a link") | dict.fromkeys(("device", "pipe", "odd"), "no regular file")
    *others, last = items_of("a.tar", tarred(members))
    assert others == [RejectedRecord(*each) for each in {**reasons, "holes": "a sparse file"}.items()]
    assert last == Record("last.txt", b"last", "text/plain")


def test_links_folders_and_secrets_of_a_zip_file() -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("folder/", b"")
        link = zipfile.ZipInfo("link")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        secret, other = zipfile.ZipInfo("secret.txt"), zipfile.ZipInfo("other.txt")
        archive.writestr(secret, b"x")
        secret.flag_bits |= 1  # what the directory says, which is written when the archive is closed
        archive.writestr(other, b"x")
        other.compress_type = 9
        archive.writestr(zipfile.ZipInfo("last.txt"), b"last")
    items = items_of("a.zip", sink.getvalue())
    assert contents(items) == {"last.txt": b"last"}
    assert [(item.uri, item.reason.split(":")[0]) for item in rejected(items)] == [
        ("link", "a link"), ("secret.txt", "encrypted"), ("other.txt", "cannot be read"),
    ]  # fmt: skip


@for_each("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_archive_that_is_cut_off_gives_what_came_before(form: int) -> None:
    second = "b.txt" if form == tarfile.USTAR_FORMAT else "x" * 120 + ".txt"
    raw = tarred({"a.txt": b"a" * 700, second: b"b" * 10, "c.txt": b"c"}, form)
    check_cuts("a.tar", raw, 37)
    end = len(raw.rstrip(b"\0"))
    assert all(rejected(items_of("a.tar", raw[:cut])) for cut in range(0, end, 61))
    assert rejected(items_of("a.tar", raw[: -(-end // 512) * 512])) == [
        RejectedRecord("", "the mark at the end of the archive is missing: it may be cut off")
    ]


def test_a_damaged_header_of_a_tar_archive_and_bytes_behind_its_end_are_told() -> None:
    raw = bytearray(tarred({"a.txt": b"a" * 600, "b.txt": b"b" * 600, "c.txt": b"c"}, tarfile.USTAR_FORMAT))
    assert rejected(items_of("a.tar", bytes(raw) + b"more")) == [
        RejectedRecord("", "4 bytes after the end of the archive")
    ]
    raw[3 * 512] ^= 1  # the name of the second
    assert items_of("a.tar", bytes(raw)) == [
        Record("a.txt", b"a" * 600, "text/plain"),
        RejectedRecord("", "a damaged header in a tar archive; what follows is not read"),
    ]


def test_a_damaged_member_of_a_zip_file_costs_itself() -> None:
    raw = zipped({"a.txt": b"first", "b.txt": b"second", "c.txt": b"third"}, zipfile.ZIP_STORED)
    items = items_of("a.zip", raw.replace(b"second", b"sekond"))
    assert contents(items) == {"a.txt": b"first", "c.txt": b"third"}
    assert [(item.uri, "Bad CRC-32" in item.reason) for item in rejected(items)] == [("b.txt", True)]


def test_a_member_that_is_too_large_is_read_over() -> None:
    files = {"a.txt": b"a" * 1001, "b.txt": b"b" * 1000}
    for name, raw in (("a.zip", zipped(files)), ("a.tar", tarred(files))):
        items = items_of(name, raw, SMALL)
        assert contents(items) == {"b.txt": b"b" * 1000}
        assert rejected(items) == [RejectedRecord("a.txt", "larger than max_bytes = 1,000 bytes (1,001)")]


@for_each("suffix", PACKINGS)
def test_what_is_cut_off_or_followed_by_something_else_is_told(suffix: str) -> None:
    rows = b'{"text": "a"}\n' * 9
    raw = PACKINGS[suffix](rows)
    for damaged, reason in ((raw[:-3], "end early"), (raw + b"something else", "cannot be read")):
        items = items_of(f"a.jsonl.{suffix}", damaged)
        assert len(kept(items)) == 9 or suffix != "gz"
        assert [reason in item.reason for item in rejected(items)] == [True]


def zip_of_one(packed: bytes, size: int, checksum: int, method: int) -> bytes:
    """A zip file of one member `a.txt` that declares what it is told to."""
    about = struct.pack("<5H3I", 20, 0, method, 0, 0x21, checksum, len(packed), size)
    local = b"PK\3\4" + about + struct.pack("<2H", 5, 0) + b"a.txt" + packed
    entry = b"PK\1\2" + struct.pack("<H", 20) + about + struct.pack("<5H2I", 5, 0, 0, 0, 0, 0, 0) + b"a.txt"
    return local + entry + b"PK\5\6" + struct.pack("<4H2IH", 0, 0, 1, 1, len(entry), len(local), 0)


def nested(depth: int, width: int, content: bytes) -> bytes:
    """Zip files in zip files, as deep and as wide as that, around one file."""
    raw = zipped({"zeros.txt": content})
    for _ in range(depth):
        raw = zipped({f"{number}.zip": raw for number in range(width)})
    return raw


@for_each(
    ("name", "raw"),
    [
        ("a.zip", zip_of_one(zeros_deflated(1_000_000_000), 1_000_000_000, 0, 8)),
        ("a.zip", zip_of_one(zeros_deflated(1_000_000_000), 1000, 0, 8)),  # it declares less
        ("a.zip", zip_of_one(bz2.compress(bytes(9_000_000)), 1000, 0, 12)),
        ("a.bin.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + zeros_deflated(1_000_000_000) + bytes(8)),
        ("a.jsonl.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + zeros_deflated(1_000_000_000) + bytes(8)),
        ("a.zip", nested(2, 4, bytes(24_000_000))),
    ],
)
def test_a_bomb_costs_no_more_than_is_allowed(name: str, raw: bytes) -> None:
    assert len(raw) < 1_100_000
    with peak_below(60_000_000):
        items = items_of(name, raw)
    assert items and not kept(items)


def test_what_is_unpacked_at_all_depths_is_counted() -> None:
    inner = zipped({f"{number}.txt": bytes(12_000_000) for number in range(12)})
    raw = zipped({"inner.zip": inner})
    assert len(raw) < 20_000
    items = items_of("bomb.zip", raw)
    assert {item.uri for item in kept(items)} == {f"inner.zip/{number}.txt" for number in range(8)}  # 96 MB of 100
    assert items[8:] == [RejectedRecord("", "unpacks to more than 200 times its size; what follows is not read")]


def test_containers_are_read_as_deep_as_allowed() -> None:
    items = items_of("bomb.zip", nested(4, 3, bytes(1000)))
    assert not kept(items) and len(items) == 27
    assert {item.reason for item in rejected(items)} == {"a container (zip) deeper than the limit on nesting"}
    assert items[0].uri == "0.zip/0.zip/0.zip"
    raw = b"content"
    for _ in range(5):
        raw = gzip.compress(raw)
    assert [item.uri for item in items_of("a.txt.gz", raw)] == [""] and not kept(items_of("a.txt.gz", raw))
