"""What is fuzzed: each reader and extractor with valid samples, mutations that know its format, and what has to hold.

A target takes bytes. It returns where they were read or refused with a reason, and raises whatever else happened.
"""

import io
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import reader_samples as samples
from mutations import Mutate, either, inside, inside_zip, mutated, with_tar_checksums, with_warc_lengths

from kit.containers import zipped
from lmworks.corpus.documents import Extracted, Extractor, UnusableError, rejected_to_json
from lmworks.corpus.extract.charset import decode, decode_html
from lmworks.corpus.extract.docx import extract_docx
from lmworks.corpus.extract.epub import extract_epub
from lmworks.corpus.extract.html_to_markdown import html_to_markdown
from lmworks.corpus.extract.mail import extract_mail
from lmworks.corpus.extract.main_content import extract_html
from lmworks.corpus.extract.markup import extract_markdown, extract_plain, extract_rest
from lmworks.corpus.extract.pdf import extract_pdf
from lmworks.corpus.extract.wikitext import extract_wikitext
from lmworks.corpus.read.config import ReadConfig
from lmworks.corpus.read.reader import Request, read_files, read_stream
from lmworks.corpus.read.record import Record, Row
from lmworks.corpus.sources.docstrings import extract_docstrings
from lmworks.corpus.sources.files import FoundFile
from lmworks.corpus.sources.source_code import extract_source_code
from lmworks.data.plain_texts import plain_texts
from lmworks.records import RejectedRecord
from lmworks.sandbox import Sandbox, SandboxError

CONFIG = ReadConfig(max_bytes=100_000)
_BUGS = ("AssertionError", "AttributeError", "KeyError", "NameError", "TypeError")  # that no damaged file has to raise


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    run: Callable[[bytes], None]
    seeds: Sequence[bytes]
    mutate: Mutate


def extract_checked(extractor: Extractor, raw: bytes) -> None:
    try:
        extracted = extractor(raw)
    except UnusableError as error:
        assert str(error)
        return
    assert isinstance(extracted, Extracted) and extracted.text.strip()
    for text in (extracted.text, extracted.title, *extracted.metadata.keys(), *extracted.metadata.values()):
        text.encode()  # what no file of ours could hold


def read_checked(name: str, raw: bytes) -> None:
    names: set[str] = set()
    stream: Any = io.BytesIO(raw)
    for item in read_stream(name, io.BufferedReader(stream), CONFIG):
        item.uri.encode()
        match item:
            case Record():
                assert len(item.content) <= CONFIG.max_bytes
                told = [item.title, item.date or "", *item.metadata.keys(), *item.metadata.values()]
            case Row():
                assert len(item.text) <= CONFIG.max_bytes
                told = [item.text, item.title, item.date or "", *item.metadata.keys(), *item.metadata.values()]
            case RejectedRecord():
                assert item.reason and item.count >= 1 and not any(f": {bug}: " in item.reason for bug in _BUGS), item
                told = [item.reason]
        if not isinstance(item, RejectedRecord):
            assert item.uri not in names, f"{item.uri!r} was given twice"
            names.add(item.uri)
        for text in told:
            text.encode()


def _read_checked(given: tuple[str, bytes]) -> None:
    read_checked(*given)


def read_checked_apart(name: str, raw: bytes) -> None:
    """What may end its process, as pyarrow does at some footers, costs no more than that."""
    try:
        _APART.call(_read_checked, (name, raw))
    except SandboxError as error:
        assert "failed" not in str(error), error


_APART = Sandbox()


# Names of files, of which the first byte of the input chooses one.
_NAMES = (
    "a", "a.bin", "a.bz2", "a.csv", "a.docx", "a.eml", "a.epub", "a.gz", "a.htm", "a.jsonl", "a.mbox", "a.md",
    "a.parquet", "a.pdf", "a.py", "a.rst", "a.tar", "a.tgz", "a.tsv", "a.txt", "a.warc", "a.xhtml", "a.xml", "a.xz",
    "a.zip", "a.zst", "Makefile", "a.bundle",
)  # fmt: skip


def documents_checked(raw: bytes) -> None:
    """The way of a file through all: recognised, opened, extracted, written."""
    name = _NAMES[raw[0] % len(_NAMES)] if raw else "a"
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        path = Path(folder, name)
        path.write_bytes(raw[1:])
        config = ReadConfig(sources=(name,), max_bytes=100_000, source_code="whole")
        request = Request((FoundFile(path, name, Path(name), "fuzz"),), config)
        for _, item in chain.from_iterable(batch for _, batch in read_files(request, lambda *place: None)):
            if isinstance(item, RejectedRecord):
                rejected_to_json(item).encode()


def texts_checked(raw: bytes) -> None:
    """Of a .jsonl file; a later row without a text is an error of the file's author, which the caller is told."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        Path(folder, "a.jsonl").write_bytes(raw)
        Path(folder, "b.txt").write_bytes(raw)
        rejected: list[Any] = []
        try:
            for text in plain_texts(["."], rejected, Path(folder)):
                text.encode()
        except ValueError as error:
            assert "line" in str(error) or "not UTF-8" in str(error)


def encoding_checked(raw: bytes) -> None:
    """The first byte chooses what is declared."""
    declared = (
        "utf-16",
        "idna",
        "punycode",
        "utf-7",
        "unicode_escape",
        "hz",
        "big5",
        "cp1252",
        "x",
        "hex",
        "rot13",
        "",
    )
    for read in (decode, decode_html):
        try:
            read(raw[1:], declared[raw[0] % len(declared)] or None if raw else None).text.encode()
        except UnusableError as error:
            assert str(error)


def markup_checked(raw: bytes) -> None:
    try:
        html_to_markdown(raw.decode("utf-8", "replace")).encode()
    except UnusableError as error:
        assert str(error)


_HTML = (
    b"<table>", b"<tr>", b"<td>", b"<td colspan=1000 rowspan=1000>", b"</table>", b"<div>", b"</div>", b"<p>", b"<ul>",
    b"<li>", b"</ul>", b"<pre>", b"</pre>", b"<b>", b"</b>", b"<a href='#'>", b"</a>", b"<sup>", b"<math alttext='x'>",
    b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<!DOCTYPE", b"&amp;", b"&#0;", b"&#xD800;", b"<meta charset=idna>",
    b"<meta charset=utf-7>", b"<meta charset='unicode_escape'>", b"<script>", b"<h1>", b"<article>", b"\xff\xfe", b"\0",
    b"<template>", b"<svg>", b"<body>", b"<frameset>", b"<plaintext>", b"<br>", b"<blockquote>",
)  # fmt: skip
_XML = (
    b"<w:p>", b"</w:p>", b"<w:tbl>", b"<w:tr>", b"<w:tc>", b"<w:t>", b"<w:r>", b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;",
    b"<?xml version='1.0' encoding='utf-16'?>", b"<?xml version='1.0' encoding='x'?>", b"<itemref idref='a'/>",
    b"../", b"\xff\xfe", b"&#0;", b"<![CDATA[", b"w:val='-1'", b"http://x",
)  # fmt: skip
_MARKDOWN = (
    b"[", b"](", b"![", b"> ", b"- ", b"1. ", b"*", b"_", b"`", b"```\n", b"#", b"<", b"\n", b"    ", b"|", b"[a]: ",
)  # fmt: skip
_REST = (b"=", b"-\n", b"Title:", b"A:", b"\n", b"  ", b"::\n", b"\t", b"====\n")
_PYTHON = (
    b"(", b"[", b"{", b"lambda:", b"not ", b"-", b"f'{", b"}'", b'"""', b"\\", b"def f(", b"class A(", b"elif a:\n    pass\n",
    b"# coding: idna\n", b"# coding: utf-7\n", b"# coding: hex\n", b"# coding: punycode\n", b"\t", b"\n    ", b"\f", b"\0",
    b"1" * 5000, b"'\\ud800'", b"+1", b".a", b"async ", b"match a:\n case ", b"\xef\xbb\xbf",
)  # fmt: skip
_WIKI = (
    b"{{", b"}}", b"{{{", b"}}}", b"[[", b"]]", b"|", b"{|", b"|}", b"|-", b"!!", b"==", b"'''", b"''", b"<ref>", b"</ref>",
    b"<nowiki>", b"</nowiki>", b"<!--", b"-->", b"*", b"#", b":", b"<math>", b"&#1;", b"&amp;", b"[http://a ", b"\n",
    b"{{lang|fr|", b"<blockquote>", b"{{quote|", b"{{!}}", b"<br>", b"#REDIRECT [[", b"----", b"{{convert|1|to|", b"{{a}}",
)  # fmt: skip
_MAIL = (
    b"Content-Type: multipart/mixed; boundary=a\n\n--a\n", b"--a\n", b"--a--\n", b"Content-Type: message/rfc822\n\n",
    b"Content-Type: text/html; charset=idna\n\n", b"Content-Transfer-Encoding: base64\n\n", b"=?utf-8?q?", b"?=",
    b"Content-Transfer-Encoding: x-uuencode\n\nbegin 644 a\n", b"Content-Disposition: attachment; filename*0*=a''%41\n",
    b"Subject: ", b"From: ", b"@", b"\n\n", b"\n ", b"\r", b"\xff", b"\0", b"Content-Type: text/plain; charset*=utf-7''x\n\n",
    b"Content-Type: message/external-body\n\n", b"Content-Type: message/delivery-status\n\n", b"(", b'"', b"<", b";",
)  # fmt: skip
_PDF = (
    b"/Kids [2 0 R]", b"/Count 999999999", b"/Parent 4 0 R", b" 0 R", b"<<", b">>", b"[", b"]", b"stream\n", b"endstream",
    b"/Filter /FlateDecode", b"/Filter /LZWDecode", b"/Filter [/ASCIIHexDecode /RunLengthDecode]", b"/Encrypt ", b"BT ", b"ET ",
    b"(a) Tj ", b"q ", b"Q ", b"/F1 12 Tf ", b"/Type /XObject /Subtype /Form", b"/Length 99999999", b"\xfe\xff\xd8\x00", b"Do ",
)  # fmt: skip
_WARC = (
    b"WARC/1.0\r\n", b"WARC-Type: response\r\n", b"Content-Length: 0\r\n", b"\r\n", b"HTTP/1.1 200 OK\r\n", b"\r\n\r\n",
    b"Content-Encoding: gzip, deflate\r\n", b"Transfer-Encoding: chunked\r\n", b"ffffffff\r\n", b"0\r\n", b"\x1f\x8b\x08",
    b"Content-Type: a/b; charset=", b"WARC-Segment-Number: 1\r\n", b" folded\r\n",
)  # fmt: skip
_JSON = (
    b"[", b"]", b"{", b"}", b'"', b"\\ud800", b"1e999", b"9" * 5000, b"null", b'"text":', b"\n", b",", b"NaN",
    b"\xff", b"\0",
)  # fmt: skip
_MBOX = (b"From a@example.org Mon May  6 10:00:00 2024\n", b"\n", b">From ", b"\r\n", b"From ", b"Subject: a\n")
_DUMP = (
    b"<page>", b"</page>", b"<revision>", b"<title>", b"<text>", b"<text deleted='deleted'>", b"<!DOCTYPE a [", b"&lt;", b"]]>",
    b"<?xml version='1.0' encoding='x'?>", b"<?xml version='1.0' encoding='big5'?>", b"<![CDATA[", b"<mediawiki>", b"<ns>",
)  # fmt: skip
_ZIP = (b"PK\3\4", b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"\x01\0\x10\0", b"../", b"C:\\", b"\xff\xff\xff\xff")
_TAR = (
    b"ustar", b"\x80\0\0\0\0\0\0\0\0\0\0\1", b"\xff" * 12, b"GNU.sparse.map=1", b"20 size=-1\n", b"19 path=../x\n",
    b"S", b"L", b"x", b"g",
)  # fmt: skip


def _target(
    name: str, run: Callable[[bytes], None], seeds: Sequence[bytes], tokens: Sequence[bytes] = (), *deeper: Any
) -> Target:
    """`deeper` are what makes a mutation one of what is packed."""
    plainly = partial(mutated, tokens=tokens, others=seeds)
    return Target(name, run, seeds, either(plainly, *(wrap(plainly) for wrap in deeper)))


def _reader(name: str, suffix: str, seeds: Sequence[bytes], tokens: Sequence[bytes] = (), *deeper: Any) -> Target:
    return _target(name, partial(read_checked, suffix), seeds, tokens, *deeper)


def _extractor(
    name: str, extractor: Extractor, seeds: Sequence[bytes], tokens: Sequence[bytes], *deeper: Any
) -> Target:
    return _target(name, partial(extract_checked, extractor), seeds, tokens, *deeper)


def _all() -> Iterator[Target]:
    python, commit = [samples.python()], "0123456789abcdef" * 2 + "01234567"
    yield _extractor("html", extract_html, [samples.html()], _HTML)
    yield _extractor("pdf", extract_pdf, [samples.pdf()], _PDF)
    yield _extractor("docx", extract_docx, [samples.docx()], _XML, inside_zip)
    yield _extractor("epub", extract_epub, [samples.epub()], (*_XML, *_HTML), inside_zip)
    yield _extractor("markdown", extract_markdown, [samples.markdown()], _MARKDOWN)
    yield _extractor("rest", extract_rest, [samples.rest()], _REST)
    encoded = [samples.plain().decode().encode(codec) for codec in ("utf-8", "utf-16", "utf-32", "cp1252")]
    yield _extractor("plain", extract_plain, encoded, _REST)
    yield _extractor("mail", extract_mail, [samples.mail(), samples.flowed_mail()], _MAIL)
    yield _extractor("wikitext", extract_wikitext, [samples.wikitext()], _WIKI)
    yield _extractor("docstrings", partial(extract_docstrings, name="a"), python, _PYTHON)
    yield _extractor("source", partial(extract_source_code, media_type="text/x-python"), python, _PYTHON)
    yield _target("xhtml", markup_checked, [samples.html()], _HTML)
    text = "Ein schöner Text. Příliš žluťoučký kůň. Привет, мир. 漢字かな交じり文。"
    seeds = [
        b"\xff" + text.encode(codec, "replace") for codec in ("utf-8", "cp1250", "cp1251", "gb18030", "cp932", "utf-16")
    ]
    yield _target("encoding", encoding_checked, seeds, (b"\x1b$B", b"\0", b"\xc3\xa4", b"+2AA-", b"\\ud800", b"xn--"))
    yield _target("texts", texts_checked, [samples.jsonl()], _JSON)
    yield _reader("jsonl", "a.jsonl", [samples.jsonl()], _JSON)
    yield _reader("csv", "a.csv", [samples.separated()], (b'"', b",", b"\n", b'""', b"\r", b"\0", b"\xff", b"text"))
    yield _reader("tsv", "a.tsv", [samples.separated("excel-tab")], (b'"', b"\t", b"\n", b'""', b"\r", b"\0", b"\xff"))
    tables = [samples.parquet(), samples.parquet("snappy")]
    read_parquet = partial(read_checked_apart, "a.parquet")
    yield _target("parquet", read_parquet, tables, (b"PAR1", b"\x15", b"\x19", b"\xff\xff"))
    yield _reader("mbox", "a.mbox", [samples.mbox()], _MBOX)
    yield _reader("mediawiki", "a.xml", [samples.mediawiki()], _DUMP)
    yield _reader("warc", "a.warc", [samples.warc()], _WARC, with_warc_lengths)
    yield _reader("warc-gz", "a.warc.gz", [samples.warc(packed=True)], _WARC, partial(inside, "gzip"))
    archives = [zipped(samples.FILES), zipped(samples.FILES, zipfile.ZIP_BZIP2, commit.encode())]
    yield _reader("zip", "a.zip", [*archives, zipped({"in.zip": archives[0]})], _ZIP, inside_zip)
    tars = [samples.tarred(), samples.tarred(form=tarfile.GNU_FORMAT), samples.tarred(comment=commit)]
    yield _reader("tar", "a.tar", [*tars, samples.tarred({"a" * 300: b"b"})], _TAR, with_tar_checksums)
    for packing, suffix in (("gzip", "gz"), ("bzip2", "bz2"), ("xz", "xz"), ("zstd", "zst")):
        compress = samples.COMPRESS[packing]
        seeds = [compress(samples.jsonl()), compress(samples.jsonl()) * 2]
        yield _reader(packing, f"a.jsonl.{suffix}", seeds, (compress(b""), b"\0"), partial(inside, packing))
    whole = [
        bytes([_NAMES.index(name)]) + raw
        for name, raw in (
            ("a.htm", samples.html()), ("a.eml", samples.mail()), ("a.zip", archives[0]), ("a.tgz", samples.COMPRESS["gzip"](tars[0])),
            ("a.py", samples.python()), ("a.jsonl", samples.jsonl()), ("a.xml", samples.mediawiki()), ("a.docx", samples.docx()),
            ("a.warc", samples.warc()), ("a.mbox", samples.mbox()), ("a.bundle", b"# v2 git bundle\n" + b"0" * 40 + b" HEAD\n\nPACK"),
        )
    ]  # fmt: skip
    yield _target("documents", documents_checked, whole, (*_HTML, *_MAIL, *_WIKI, *_ZIP))


TARGETS: dict[str, Target] = {target.name: target for target in _all()}
