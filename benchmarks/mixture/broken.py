"""Files that are broken, or made to harm: each is to be read, or named as left out, and none stops a run."""

import gzip
import io
import json
import tarfile
import zipfile

from mixture.planting import Mixture

_FINE = (
    "Beside them lies a file with which nothing is wrong, so that something is seen to be read. It has two sentences."
)
_TEXT = "A plain sentence that any reader can read, whatever is wrong with the file around it. " * 8


def plant_broken(mixture: Mixture) -> None:
    mixture.source("broken", "CC0-1.0")
    for name, content in _files().items():
        uri = f"broken/{name}"
        mixture.write(uri, content)
        mixture.plant("broken or hostile file", uri, "accounted")
    mixture.write("broken/fine.txt", _FINE, _FINE)
    mixture.keep("broken or hostile file", "broken/fine.txt", _FINE)


def _files() -> dict[str, bytes]:
    text = _TEXT.encode()
    page = b"<html><body><p>" + text
    return {
        "empty.txt": b"",
        "blank.txt": b" \n\t\n" * 50,
        "zeros.txt": b"\0" * 5000,
        "latin1.txt": "Größe, Übermut, façade, señor: ".encode("latin-1") * 60,
        "utf16.txt": _TEXT.encode("utf-16"),
        "utf16_unmarked.txt": _TEXT.encode("utf-16-le"),
        "cut_character.txt": ("é" * 500).encode()[:-1],
        "surrogates.txt": b"\xed\xa0\x80\xed\xb0\x80 " + text,
        "one_line.txt": b"word " * 400_000,
        "noise.txt": bytes(range(256)) * 40,
        "noise.pdf": b"%PDF-1.7\n" + bytes(range(256)) * 20,
        "cut.pdf": b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n2 0 obj\n<< /Type /Pages /Kids [3 0",
        "noise.docx": bytes(range(256)) * 20,
        "no_book.epub": _zip({"mimetype": b"application/epub+zip"}),
        "cut.zip": _zip({"a.txt": text})[:-30],
        "bomb.zip": _zip({"zeros.txt": b"0" * 60_000_000}),
        "outside.zip": _zip({"../../outside.txt": text, "/root/outside.txt": text}),
        "cut.txt.gz": gzip.compress(text * 50)[:-40],
        "wrong_sum.txt.gz": gzip.compress(text)[:-8] + b"\0" * 8,
        "bomb.txt.gz": gzip.compress(b"a" * 60_000_000),
        "noise.txt.gz": bytes(range(256)) * 4,
        "cut.tar.gz": _tar()[:200],
        "links.tar": _links(),
        "deep.html": b"<div>" * 20_000 + text + b"</div>" * 20_000,
        "unclosed.html": b"<html><body><table><tr><td><p><b>" + text,
        "scripts_only.html": b"<html><script>" + b"var a = 1;\n" * 500 + b"</script></html>",
        "entities.html": page + b"&#x110000; &#0; &bogus; &amp;amp;" * 50,
        "attributes.html": b"<p " + b"a=b " * 100_000 + b">" + text,
        "entities.xhtml": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
        + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(8))
        + b"]><html xmlns='http://www.w3.org/1999/xhtml'><body><p>&i;</p></body></html>",
        "rows.jsonl": b'{"text": "' + text + b'"}\n{"text": \n[1, 2]\n{"other": 3}\n{"text": 7}\n',
        "deep.jsonl": b'{"text": ' + b"[" * 100_000 + b"\n",
        "columns.csv": b'text,other\n"never closed,1\n' + text,
        "noise.parquet": b"PAR1" + bytes(range(256)) + b"PAR1",
        "cut.warc": b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: 9999\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" + text,
        "endless.warc": b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: 99999999999999999999\r\n\r\n" + text,
        "nested.eml": _nested_mail(),
        "no_headers.eml": text,
        "cut.mbox": b"From nobody Mon Jan  3 00:00:00 2011\nSubject: x\n\n" + text + b"\nFrom ",
        "code.py": b"# -*- coding: no-such-encoding -*-\nx = 1\n",
        "image.txt": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 10,
        "bidirectional.txt": ("\u202e" + _TEXT + "\u2066" * 100).encode(),
        "combining.txt": ("e" + "\u0301" * 5_000 + " " + _TEXT).encode(),
    }  # fmt: skip


def _zip(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for number in range(20):
            content = f"{number} {_TEXT}".encode()
            member = tarfile.TarInfo(f"{number}.txt")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _links() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, target in (("loop.txt", "loop.txt"), ("passwd.txt", "/etc/passwd")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return stream.getvalue()


def _nested_mail() -> bytes:
    head = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (depth, depth) for depth in range(300)
    )
    return b"From: a@example.org\nSubject: x\n" + head + b"\n" + json.dumps(_TEXT).encode()
