"""What a file is: the suffix first, and what it begins with where that says otherwise."""

import bz2
import gzip
import lzma
import tarfile
import zlib

from hypothesis import given
from hypothesis import strategies as st

from kit.containers import tarred, zipped
from kit.tables import for_each
from lmworks.corpus.read.format_detection import MEDIA_TYPES, detect, media_type_of, name_behind_compression

MAIL = b"From name@example.org Thu Feb 29 12:00:00 2024\nSubject: a\n\ntext\n"
ZIP = zipped({"a.txt": b"a"})
TAR = tarred({"a.txt": b"a"})


EPUB = zipped({"mimetype": "application/epub+zip", "OEBPS/content.opf": "<package/>"})
DOCX = zipped({"[Content_Types].xml": b"<Types/>", "_rels/.rels": b"<r/>", "word/document.xml": b"<w/>"})


@for_each(("name", "head", "container", "media_type"), [
    ("a.txt", b"text", None, "text/plain"), ("A.TXT", b"text", None, "text/plain"),
    ("folder.d/readme", b"text", None, "text/plain"), ("LICENSE", "Ä".encode() * 2000 + b"\xc3", None, "text/plain"),
    ("COPYING.LESSER", b"", None, "text/plain"), ("NEWS", "Änderungen".encode("cp1252"), None, "text/plain"),
    ("README", "text".encode("utf-16"), None, "text/plain"), ("README.de", b"\x00\x01", None, None),
    ("blob", bytes(range(1, 256)), None, None), ("dump.dat", b"text", None, None), (".gitignore", b"text", None, None),
    ("project/.git/HEAD", b"text", None, None), ("configure", b"#!/bin/sh\n", None, "text/x-sh"),
    ("run", b"#! /usr/bin/env -S python3.11 -u\n", None, "text/x-python"), ("run", b"#!/opt/own\n", None, "text/plain"),
    ("LICENSE.html", b"text", None, "text/html"), ("LICENSE", b"<!doctype html>", None, "text/html"),
    ("a.c", b"", None, "text/x-c"), ("a.RS", b"", None, "text/x-rust"), ("Makefile", b"all:", None, "text/x-makefile"),
    ("a.py", b"a = 1", None, "text/x-python"), ("a.json", b'{"a": 1}', None, None), ("a.xml", b"<a/>", None, None),
    ("a.markdown", b"# a", None, "text/markdown"), ("a.eml", b"Subject: a", None, "message/rfc822"),
    ("a.txt", ZIP, "zip", None), ("a.html", b"%PDF-1.7", None, "application/pdf"),
    ("a.pdf", b"<!DOCTYPE html><p>not found", None, "application/pdf"), ("a.txt", gzip.compress(b"a"), "gzip", None),
    ("a", bz2.compress(b"a"), "bzip2", None), ("a", lzma.compress(b"a"), "xz", None),
    ("a", b"\x28\xb5\x2f\xfd\0", "zstd", None), ("a.dat", TAR, "tar", None), ("a.txt", b"WARC/1.0\r\n", "warc", None),
    ("2004-May.txt", MAIL, "mbox", None), ("a.jpg", b"\x89PNG\r\n\x1a\n", None, "image/png"),
    ("enwiki.xml", b'<mediawiki xmlns="x">', "mediawiki", None),
    ("enwiki.xml", b'<?xml version="1.0"?>\n<mediawiki>', "mediawiki", None),
    ("a.docx", ZIP, None, MEDIA_TYPES[".docx"]),
    ("a.xlsx", ZIP, None, "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("a.epub", EPUB, None, "application/epub+zip"), ("download", EPUB, None, "application/epub+zip"),
    ("download", DOCX, None, MEDIA_TYPES[".docx"]), ("a.jsonl", b"", "jsonl", None), ("a.ndjson", b"", "jsonl", None),
    ("a.csv", b"text", "csv", None), ("a.tsv", b"text", "tsv", None), ("old.tar", b"a.txt", "tar", None),
    ("a.zip", b"MZ", "zip", None), ("download", b"  <!doctype HTML><p>", None, "text/html"),
    ("download", b"\xef\xbb\xbf<html lang=en>", None, "text/html"), ("", b"", None, None),
])  # fmt: skip
def test_what_a_file_is(name: str, head: bytes, container: str | None, media_type: str | None) -> None:
    found = detect(name, head[:4096])
    assert found.container == container
    assert container or found.media_type == media_type


@for_each(("name", "inside"), [
    ("a.txt.gz", "a.txt"), ("a.tgz", "a.tar"), ("x/a.TAR.XZ", "x/a.TAR"), ("a.tbz2", "a.tar"), ("a", "a"),
    ("a.b", "a.b"),
])  # fmt: skip
def test_what_a_compressed_file_holds_is_called(name: str, inside: str) -> None:
    assert name_behind_compression(name) == inside


@for_each(("declared", "head", "media_type"), [
    ("text/html", b"<p>", "text/html"), ("text/html", b"%PDF-1.4", "application/pdf"),
    ("text/html", ZIP, "application/x-zip"), ("application/epub+zip", ZIP, "application/epub+zip"),
    (None, b"<html>", "text/html"), (None, b"text", None),
])  # fmt: skip
def test_a_declared_type_holds_unless_the_content_contradicts(declared, head: bytes, media_type) -> None:
    assert media_type_of(declared, head) == media_type


@given(st.binary(max_size=100), st.integers(0, 9))
def test_the_streams_of_the_standard_library_are_detected(content: bytes, level: int) -> None:
    raw = {
        "gzip": gzip.compress(content, level),
        "bzip2": bz2.compress(content, max(1, level)),
        "xz": lzma.compress(content),
        "tar": tarred({"a": content}, tarfile.USTAR_FORMAT),
        None: zlib.compress(content, level),
    }
    assert {kind: detect("a.x", packed[:4096]).container for kind, packed in raw.items()} == {
        kind: kind for kind in raw
    }
