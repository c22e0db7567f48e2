"""Small valid files of every format that is read: what mutations start from."""

import bz2
import csv
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from typing import Any

from kit import containers, made_documents
from kit.made_documents import paragraph, write_pdf, xhtml

SENTENCE = "Whoever bakes bread at home knows that the dough needs time and a warm place to rest. "
ROWS: list[dict[str, Any]] = [
    {"text": "First text,\nof two lines.", "title": "One", "date": "2024-05-06", "license": "MIT", "score": 0.5},
    {"text": 'A "quoted" text — with é and 漢.', "title": "Two", "date": "", "license": "", "score": 2.0},
]


def html() -> bytes:
    items = "".join(f"<li><a href='/{number}'>Item {number}</a></li>" for number in range(3))
    return (
        "<!DOCTYPE html><html lang=en><head><meta charset=utf-8><title>Bread</title><style>p{}</style></head><body>"
        f"<nav><ul>{items}</ul></nav><article><h1>Bread &amp; time</h1><p>{SENTENCE * 3}<b>bold</b> x<sup>2</sup></p>"
        f"<table><tr><th>a<th colspan=2>b</tr><tr><td rowspan=2>1<td>2<td>3</table><pre><code class=language-c>int a;"
        f"</code></pre><ol start=3><li>{SENTENCE}<li>two</ol><blockquote><p>{SENTENCE}</p></blockquote></article>"
        "<div style='display:none'>hidden</div><script>var a = '<p>';</script><!-- note --><footer>©</footer></body>"
        "</html>"
    ).encode()


def pdf() -> bytes:
    pages = [["Page one has a divi-", "ded word."], ["Page two."]]
    return write_pdf(pages, "/Title (A title) /CreationDate (D:20240131120000Z)")


def docx() -> bytes:
    cell = "<w:tc><w:tcPr>{}</w:tcPr>" + paragraph("cell") + "</w:tc>"
    wide, merged = cell.format('<w:gridSpan w:val="2"/>'), cell.format("<w:vMerge/>")
    body = (
        paragraph("Title", "H1")
        + paragraph("item", properties='<w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr>')
        + '<w:p><w:ins><w:r><w:t>text</w:t><w:br/><w:footnoteReference w:id="7"/><w:sym w:char="0041"/></w:r></w:ins>'
        f"<w:r><mc:AlternateContent><mc:Choice><w:txbxContent>{paragraph('box')}"
        "</w:txbxContent></mc:Choice></mc:AlternateContent></w:r></w:p>"
        f"<w:tbl><w:tr>{wide}{cell.format('')}</w:tr>"
        f"<w:tr><w:trPr><w:gridBefore w:val='1'/></w:trPr>{merged}</w:tr></w:tbl>"
    )
    style = '<w:style w:type="paragraph" w:styleId="H1"><w:name w:val="heading 1"/><w:basedOn w:val="H1"/></w:style>'
    lists = '<w:abstractNum w:abstractNumId="0"><w:lvl w:ilvl="0"><w:start w:val="3"/></w:lvl></w:abstractNum>'
    lists += '<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>'
    notes, core = f"<w:footnote w:id='7'>{paragraph('note')}</w:footnote>", "<w:title>Core</w:title>"
    return made_documents.docx(body, styles=style, numbering=lists, footnotes=notes, core=core)


def epub() -> bytes:
    items = '<item id="a" href="a" media-type="application/xhtml+xml"/>'
    items += '<item id="b" href="b" media-type="image/svg+xml" fallback="a"/>'
    parts = {
        "META-INF/encryption.xml": "<encryption/>",
        "a": xhtml('<h1>One</h1><p>a<a href="#n">1</a></p>'),
        "b": "<svg/>",
    }
    return made_documents.epub(["b", "a"], parts, items)


def markdown() -> bytes:
    return (
        b'Title\n=====\n\n# One *em* [link](http://a.example "t") `code`\n\n> quote\n> - item\n>   1. two\n\n'
        b"```python\nx = 1\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n[ref]: <http://b.example>\n\n<div>\n\n***\n"
    )


def rest() -> bytes:
    return b"=====\nTitle\n=====\n\nAuthor: A\nTitle: B\n   more\n\nSection\n-------\n\n.. note::\n\n   text\n\n::\n\n  code\n"


def plain() -> bytes:
    return "Title: A text\n\nPlain words — of any kind.\r\nAnd more.\f\n".encode()


def python() -> bytes:
    return (
        b'# -*- coding: utf-8 -*-\n"""Module."""\nimport a\n\n\nclass B(A, metaclass=M[int]):\n    """Class."""\n\n'
        b'    async def c(self, x: int = 1, *, y="a" + f"{x!r:>{w}}", **z: lambda: 0) -> list[str]:\n        """Method."""\n'
        b"        return [i for i in x if i]\n\n\nif a:\n    def d(): 'Under if.'\nelif b:\n    pass\nelse:\n    try:\n"
        b"        pass\n    except* E:\n        pass\n    finally:\n        pass\nmatch a:\n    case {'x': [1, *_]}: pass\n"
    )


def wikitext() -> bytes:
    return (
        b"{{Infobox|a=[[b|c]]}}'''Bread''' is ''food'' ({{lang|fr|pain}}).<ref name=a>note</ref>\n\n== One ==\n* item\n"
        b"*# two [http://a.example label]\n{| class=wikitable\n|+ caption\n! a !! b\n|-\n| colspan=2 | c || {{convert|3|to|5|km}}\n"
        b"|}\n<math>x^2</math><nowiki>[[x]]</nowiki> H<sub>2</sub>O &amp; {{{1|default}}}\n<blockquote>q</blockquote>\n"
        b"[[File:a.png|thumb|text]]\n__TOC__\n<pre>code</pre>\n----\n: indented\n"
    )


def mail() -> bytes:
    message = EmailMessage()
    message["Subject"] = "Grüße"
    message["From"] = '"A" <a@example.org>'
    message["To"] = "b@example.org, c@example.net"
    message["Date"] = "Wed, 01 May 2024 12:30:00 +0200"
    message.set_content("Plain é words.\n")
    message.add_alternative("<p>HTML <b>words</b></p>", subtype="html")
    inner = EmailMessage()
    inner["Subject"] = "Inner"
    inner.set_content("The original.\n")
    message.add_attachment(inner)
    message.add_attachment(b"\x89PNG", maintype="image", subtype="png", filename="a.png")
    return message.as_bytes()


def flowed_mail() -> bytes:
    return (
        b"From: a@example.org\r\nSubject: =?utf-8?b?w6k=?= =?iso-8859-1?q?=e9?=\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=utf-8; format=flowed; delsp=yes\r\nContent-Transfer-Encoding: quoted-printable"
        b"\r\n\r\nA long =C3=A9 \r\nline.\r\n> quoted \r\n> too\r\n-- \r\nA\r\n"
    )


def jsonl() -> bytes:
    return "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def separated(dialect: str = "excel") -> bytes:
    sink = io.StringIO()
    writer = csv.writer(sink, dialect)
    writer.writerow(ROWS[0])
    writer.writerows(row.values() for row in ROWS)
    return sink.getvalue().encode()


def parquet(compression: str = "none") -> bytes:
    import pyarrow
    from pyarrow import parquet

    sink = io.BytesIO()
    columns: dict[str, list[Any]] = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    columns |= {"tags": [["a"], []], "day": [None, 3]}
    parquet.write_table(pyarrow.table(columns), sink, compression=compression, row_group_size=1)
    return sink.getvalue()


def mbox() -> bytes:
    start = b"From a@example.org Mon May  6 10:00:00 2024\n"
    return start + b"Subject: one\n\n>From here\n>>From there\n\n" + start + mail() + b"\n"


def mediawiki() -> bytes:
    page = (
        "<page><title>{0}</title><ns>{1}</ns><id>1</id>{2}<revision><id>2</id><timestamp>2024-01-01T00:00:00Z</timestamp>"
        "<model>wikitext</model><text bytes=\"3\" xml:space=\"preserve\">'''{0}''' &lt;b&gt;</text></revision></page>"
    )
    pages = page.format("Bread", 0, "") + page.format("Talk", 1, "") + page.format("R", 0, '<redirect title="x"/>')
    start = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">'
    return f"{start}<siteinfo><dbname>wiki</dbname></siteinfo>{pages}</mediawiki>".encode()


def http_response(body: bytes = b"", coding: str = "") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"
    if coding == "gzip":
        head, body = head + b"Content-Encoding: gzip\r\n", gzip.compress(body, mtime=0)
    elif coding == "chunked":
        head += b"Transfer-Encoding: chunked\r\n"
        body = b"%x;a=b\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return head + b"\r\n" + body


def warc_record(kind: str, block: bytes, content_type: str = "application/http; msgtype=response") -> bytes:
    return (
        f"WARC/1.1\r\nWARC-Type: {kind}\r\nWARC-Target-URI: <http://a.example/>\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
        f"WARC-Record-ID: <urn:uuid:1>\r\nContent-Type: {content_type}\r\nContent-Length: {len(block)}\r\n\r\n"
    ).encode() + block + b"\r\n\r\n"  # fmt: skip


def warc(packed: bool = False) -> bytes:
    records = [
        warc_record("warcinfo", b"software: a\r\n", "application/warc-fields"),
        warc_record("response", http_response(b"<html><p>page</p></html>")),
        warc_record("response", http_response(b"<html><p>page</p></html>", "gzip")),
        warc_record("response", http_response(b"<html><p>page</p></html>", "chunked")),
        warc_record("resource", b"plain", "text/plain"),
    ]
    return b"".join(gzip.compress(record, mtime=0) if packed else record for record in records)


FILES: Mapping[str, bytes] = {"a/one.md": b"# One\n\ntext", "a/b/two.txt": b"two " * 50, "c.html": b"<html><p>c</p>"}


def tarred(files: Mapping[str, bytes] = FILES, form: int = tarfile.PAX_FORMAT, comment: str = "") -> bytes:
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    members = [*((tarfile.TarInfo(name), content) for name, content in files.items()), (link, b"")]
    return containers.tarred(members, form, **({"pax_headers": {"comment": comment}} if comment else {}))


def zstd(content: bytes) -> bytes:
    import pyarrow

    return pyarrow.compress(content, "zstd", asbytes=True)


COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": lambda content: gzip.compress(content, mtime=0),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd,
}
