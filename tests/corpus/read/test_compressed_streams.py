"""Compressed streams against the modules that write them; damage, bombs, and how much memory they take."""

import bz2
import gzip
import io
import lzma
import struct
import zlib

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_cases import LIMITS, flipped, peak_below, trickle, zeros_deflated
from lmworks.corpus.read.compression import Members, decompressed
from lmworks.corpus.read.format_detection import COMPRESSIONS, compression_of
from lmworks.corpus.read.record import Limits
from lmworks.corpus.read.streams import DamagedError

KINDS = st.sampled_from(COMPRESSIONS)
PARTS = st.lists(st.binary(max_size=300), min_size=1, max_size=3)


def packed(kind: str, content: bytes) -> bytes:
    if kind == "zstd":
        sink = pyarrow.BufferOutputStream()
        with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(content)
        return sink.getvalue().to_pybytes()
    return {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}[kind](content)


def unpacked(kind: str, raw: bytes, limits: Limits = LIMITS) -> tuple[bytes, str]:
    """What comes before the end or the damage, and what the damage is."""
    stream = decompressed(io.BytesIO(raw), kind, limits)  # type: ignore[arg-type]
    pieces = []
    try:
        while piece := stream.read1(1000):
            pieces.append(piece)
    except DamagedError as error:
        with pytest.raises(DamagedError):  # it stays so
            stream.read1(1)
        return b"".join(pieces), str(error)
    return b"".join(pieces), ""


@given(KINDS, PARTS)
def test_one_stream_after_another_is_read_back(kind: str, parts: list[bytes]) -> None:
    raw = b"".join(packed(kind, part) for part in parts)
    assert compression_of(raw) == kind
    assert unpacked(kind, raw) == (b"".join(parts), "")


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_a_pipe_of_a_few_bytes_at_a_time_is_read_back(kind: str) -> None:
    content = bytes(range(256)) * 1000
    assert decompressed(trickle(packed(kind, content)), kind, LIMITS).read() == content  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_cut_anywhere_it_gives_what_was_good_and_says_so(kind: str) -> None:
    first, second = packed(kind, b"the first, and more of it" * 9), packed(kind, b"the second")
    whole = b"the first, and more of it" * 9 + b"the second"
    for end in range(1, len(first + second)):
        found, reason = unpacked(kind, (first + second)[:end])
        assert whole.startswith(found)
        assert bool(reason) == (end != len(first)), end
        if end >= len(first) and kind != "zstd":  # pyarrow gives nothing of a read in which it finds the end missing
            assert found.startswith(whole[: -len(b"the second")])


@given(st.sampled_from(["gzip", "bzip2", "xz"]), st.data())
def test_flipped_bytes_are_damage_or_change_nothing(kind: str, data: st.DataObject) -> None:
    content = b"checked by a sum " * 20
    found, reason = unpacked(kind, data.draw(flipped(packed(kind, content) + packed(kind, content))))
    assert reason or found == content * 2


@given(st.data())
def test_flipped_bytes_of_zstandard_do_no_harm(data: st.DataObject) -> None:
    unpacked("zstd", data.draw(flipped(packed("zstd", b"not checked by a sum " * 20))))


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
def test_padding_of_zeros_is_no_damage_and_other_bytes_are(kind: str) -> None:
    raw = packed(kind, b"content")
    assert unpacked(kind, raw + bytes(512) + raw) == (b"contentcontent", "")
    found, reason = unpacked(kind, raw + b"something else")
    assert found == b"content" and reason.startswith(f"damaged {kind} data")


def test_a_gigabyte_of_zeros_ends_early_in_little_memory() -> None:
    header = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    raw = header + zeros_deflated(1_000_000_000) + bytes(8)
    assert len(raw) < 1_100_000
    stream = decompressed(io.BytesIO(raw), "gzip", LIMITS)
    count, reason = 0, ""
    with peak_below(2_000_000):
        try:
            while piece := stream.read(1 << 16):
                count += len(piece)
        except DamagedError as error:
            reason = str(error)
    assert reason == "unpacks to more than 200 times its size"
    assert 99_000_000 < count < 101_000_000


def test_a_higher_ratio_lets_more_pass() -> None:
    content = zeros_deflated(120_000_000)
    raw = b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + content + struct.pack("<2I", zlib.crc32(bytes(120_000_000)), 120_000_000)
    stream = decompressed(io.BytesIO(raw), "gzip", Limits(ratio=2000))
    assert sum(len(piece) for piece in iter(lambda: stream.read(1 << 20), b"")) == 120_000_000


def test_an_xz_stream_that_asks_for_gigabytes_of_memory_is_refused() -> None:
    raw = bytearray(lzma.compress(b"content"))
    size = (raw[12] + 1) * 4  # of the block header, whose filter is LZMA2 with one byte for its dictionary
    at = raw.index(b"\x21\x01", 12) + 2
    raw[at] = 39  # 3 GiB
    raw[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(raw[12 : 12 + size - 4]))
    assert unpacked("xz", bytes(raw)) == (b"", "damaged xz data: Memory usage limit exceeded")


def test_bzip2_unpacks_no_more_than_is_asked_for() -> None:
    raw = bz2.compress(bytes(90_000_000))  # a hundred bytes
    with peak_below(10_000_000):  # bzip2's own state is 4 MB, and none of Python's
        assert decompressed(io.BytesIO(raw), "bzip2", LIMITS).read(10) == bytes(10)


def test_behind_damage_a_gzip_file_goes_on_at_the_next_member() -> None:
    members = [packed("gzip", b"member %d" % number * 50) for number in range(4)]
    members[1] = members[1][:15] + bytes(20) + members[1][35:]
    stream = decompressed(io.BytesIO(b"".join(members)), "gzip", LIMITS)
    raw = stream.raw
    assert isinstance(raw, Members)
    found = bytearray()
    for _ in range(2):
        try:
            while piece := stream.read1(10):
                found += piece
            break
        except DamagedError:
            assert raw.resume()
    assert found.startswith(b"member 0" * 50) and found.endswith(b"member 2" * 50 + b"member 3" * 50)
    assert not raw.resume()  # nothing follows
