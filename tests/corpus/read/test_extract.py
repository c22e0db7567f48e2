"""Bytes to characters: every encoding round-trips, and what is no text is refused."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.documents import UnusableError
from lmworks.corpus.extract.charset import decode
from lmworks.corpus.extract.markup import extract_plain
from lmworks.corpus.sources.files import read_file
from lmworks.records import Document, RejectedRecord

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0\ufeff"), min_size=1)


@given(TEXTS)
def test_utf8_is_read_back(text: str) -> None:
    assert decode(text.encode()) == (text, "utf-8")


@given(TEXTS, st.sampled_from(["utf-16", "utf-32", "utf-8-sig"]))
def test_a_byte_order_mark_decides_and_is_no_text(text: str, codec: str) -> None:
    assert decode(text.encode(codec)) == (text, codec.removesuffix("-sig"))


def test_old_western_files_are_read_as_windows_1252_and_say_so() -> None:
    assert decode("“naïve” – 5 €".encode("cp1252")) == ("“naïve” – 5 €", "cp1252")


def test_the_declared_encoding_comes_before_utf8() -> None:
    assert decode("Привет".encode("koi8-r"), declared="koi8-r") == ("Привет", "koi8-r")
    assert decode("Привет".encode(), declared="no-such-codec") == ("Привет", "utf-8")


def test_newlines_become_line_feeds() -> None:
    assert decode(b"a\r\nb\rc\n\r\n")[0] == "a\nb\nc\n\n"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "binary data"),
        (b"\x80\x01\x02\x03\x04\x05\x06" * 9, "binary data"),  # no zero byte, yet no text
        (b"caf\x81" * 9, "not decodable as cp1252"),  # 0x81 is undefined there
        (b"\xff\xfea", "not decodable as utf-16"),
    ],
)
def test_what_is_no_text_is_refused_with_a_reason(raw: bytes, reason: str) -> None:
    with pytest.raises(UnusableError, match=reason):
        decode(raw)


def test_read_file_gives_a_document_or_a_reason(tmp_path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\r\ntwo")
    document = read_file(path, "notes/a.txt", "text/plain", extract_plain, max_bytes=100)
    assert isinstance(document, Document)
    assert (document.text, document.extractor, document.licence) == ("one\ntwo", "plain", None)
    assert document.source_hash == hashlib.sha256(b"one\r\ntwo").hexdigest()  # of the bytes, not of the text
    assert read_file(path, "u", "text/plain", extract_plain, 3) == RejectedRecord(
        "u", "larger than max_bytes = 3 bytes (8)"
    )
    assert read_file(tmp_path / "none", "u", "text/plain", extract_plain, 3) == RejectedRecord(
        "u", "unreadable: No such file or directory"
    )
