"""Archives that unpack to far more than they are: every one costs a refusal and little memory."""

import bz2
import io
import struct
import tarfile
import zipfile
import zlib

import pytest

from container_cases import LIMITS, contents, kept, peak_below, read_all, refused, zeros_deflated, zipped
from lmworks.corpus.read.archives import read_zip
from lmworks.corpus.read.opened_file import read_stream
from lmworks.corpus.read.record import Item, Limits, Refused


def opened(name: str, raw: bytes, limits: Limits = LIMITS) -> list[Item]:
    return list(read_stream(name, io.BytesIO(raw), limits))


def zip_of_one(packed: bytes, size: int, checksum: int, method: int) -> bytes:
    """A zip file of one member `a.txt` that declares what it is told to."""
    about = struct.pack("<5H3I", 20, 0, method, 0, 0x21, checksum, len(packed), size)
    local = b"PK\3\4" + about + struct.pack("<2H", 5, 0) + b"a.txt" + packed
    entry = b"PK\1\2" + struct.pack("<H", 20) + about + struct.pack("<5H2I", 5, 0, 0, 0, 0, 0, 0) + b"a.txt"
    return local + entry + b"PK\5\6" + struct.pack("<4H2IH", 0, 0, 1, 1, len(entry), len(local), 0)


def test_the_zip_file_made_here_is_one() -> None:
    raw = zip_of_one(zlib.compress(b"content" * 9, wbits=-15), 63, zlib.crc32(b"content" * 9), 8)
    assert contents(read_all(read_zip, raw)) == {"a.txt": b"content" * 9}
    assert zipfile.ZipFile(io.BytesIO(raw)).read("a.txt") == b"content" * 9


@pytest.mark.parametrize("declared", [1_000_000_000, 1000])
def test_a_gigabyte_of_zeros_in_a_zip_file(declared: int) -> None:
    raw = zip_of_one(zeros_deflated(1_000_000_000), declared, 0, 8)
    with peak_below(3_000_000):
        (item,) = read_all(read_zip, raw)
    assert isinstance(item, Refused) and item.name == "a.txt"


def test_bzip2_in_a_zip_file_is_unpacked_in_little_memory() -> None:
    raw = zip_of_one(bz2.compress(bytes(90_000_000)), 1000, 0, 12)
    with peak_below(10_000_000):
        (item,) = read_all(read_zip, raw)
    assert item == Refused("a.txt", "unpacks to more than the 1,000 bytes that it declares")


def test_members_that_are_one_another() -> None:
    raw = zipped({"a.txt": b"a" * 100, "b.txt": b"b" * 100, "c.txt": b"c" * 100})
    first = raw.index(b"PK\1\2")
    second = raw.index(b"PK\1\2", first + 1)
    lying = bytearray(raw)
    struct.pack_into("<I", lying, second + 42, 0)  # begins where the first does
    assert read_all(read_zip, bytes(lying))[:2] == [
        Refused("a.txt", "shares its bytes with another member: a zip bomb"),
        Refused("b.txt", "shares its bytes with another member: a zip bomb"),
    ]
    assert contents(read_all(read_zip, bytes(lying))) == {"c.txt": b"c" * 100}


def test_members_that_reach_over_one_another() -> None:
    raw = zipped({"a.txt": b"a" * 100, "b.txt": b"b" * 100, "c.txt": b"c" * 100}, zipfile.ZIP_STORED)
    lying = bytearray(raw)
    struct.pack_into("<I", lying, raw.index(b"PK\1\2") + 20, 200)  # the packed size of the first
    assert [item.name for item in refused(read_all(read_zip, bytes(lying)))] == ["a.txt", "b.txt"]


def nested(depth: int, width: int, content: bytes) -> bytes:
    """Zip files in zip files, as deep and as wide as that, around one file."""
    raw = zipped({"zeros.txt": content})
    for _ in range(depth):
        raw = zipped({f"{number}.zip": raw for number in range(width)})
    return raw


def test_zip_files_in_zip_files_are_read_as_deep_as_allowed() -> None:
    raw = nested(4, 3, bytes(1000))
    with peak_below(5_000_000):
        items = opened("bomb.zip", raw)
    assert not kept(items) and len(items) == 27
    assert {item.reason for item in refused(items)} == {"a container (zip) deeper than the limit on nesting"}
    assert len(contents(opened("bomb.zip", raw, Limits(nesting=4)))) == 81
    assert items[0].name == "0.zip/0.zip/0.zip"


def test_large_files_in_nested_zip_files_cost_a_refusal_each() -> None:
    raw = nested(2, 4, bytes(24_000_000))
    assert len(raw) < 30_000
    with peak_below(30_000_000):
        items = opened("bomb.zip", raw)
    assert not kept(items)
    assert {item.reason for item in refused(items)} == {"larger than max_bytes = 20,000,000 bytes (24,000,000)"}


def test_what_is_unpacked_at_all_depths_is_counted() -> None:
    inner = zipped({f"{number}.txt": bytes(12_000_000) for number in range(12)})
    raw = zipped({"inner.zip": inner})
    assert len(raw) < 20_000
    names = {item.name for item in kept(opened("bomb.zip", raw))}
    assert names == {f"inner.zip/{number}.txt" for number in range(8)}  # 96 MB of 100
    told = refused(opened("bomb.zip", raw))
    assert {item.reason.split(";")[0] for item in told} == {"unpacks to more than 200 times its size"}
    assert len(told) <= 4


def test_a_compressed_archive_is_read_over_no_further_than_the_ratio() -> None:
    info = tarfile.TarInfo("huge.txt")
    info.size = 1_000_000_000
    packer = zlib.compressobj(wbits=31)
    raw = packer.compress(info.tobuf(tarfile.USTAR_FORMAT))
    raw += b"".join(packer.compress(bytes(1_000_000)) for _ in range(130)) + packer.flush()
    with peak_below(3_000_000):
        items = opened("a.tar.gz", raw)
    assert items[0] == Refused("huge.txt", "larger than max_bytes = 20,000,000 bytes (1,000,000,000)")
    assert refused(items)[1].reason.startswith("unpacks to more than 200 times its size")
    assert not kept(items) and len(items) == 2


def test_compressed_again_and_again() -> None:
    raw = b"content"
    for _ in range(5):
        packer = zlib.compressobj(wbits=31)
        raw = packer.compress(raw) + packer.flush()
    (item,) = opened("a.txt.gz", raw)
    assert item == Refused("", "compressed again (gzip), deeper than the limit on nesting")
