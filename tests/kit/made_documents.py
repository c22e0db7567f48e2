"""PDF, DOCX and EPUB files, written by hand after their specifications."""

from kit.containers import zipped

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"
MC = "http://schemas.openxmlformats.org/markup-compatibility/2006"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
METADATA = (
    "<dc:title>The  Book</dc:title><dc:language>en</dc:language><dc:creator>A. Writer</dc:creator>"
    "<dc:creator>B. Writer</dc:creator><dc:date>2011-05-03T00:00:00Z</dc:date><dc:rights>CC BY 4.0</dc:rights>"
)


def write_pdf(pages: list[list[str]], information: str = "", trailer: str = "") -> bytes:
    """A PDF with a page for each list of lines, set in Helvetica from the top (ISO 32000-1, sections 7.5 and 9.4)."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} /MediaBox [0 0 612 792] >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for number, lines in enumerate(pages):
        escaped = (line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)") for line in lines)
        shown = "".join(f"({line}) Tj 0 -20 Td " for line in escaped)
        content = f"BT /F1 12 Tf 72 720 Td {shown}ET" if lines else ""
        resources = "/Resources << /Font << /F1 3 0 R >> >>"
        objects.append(f"<< /Type /Page /Parent 2 0 R {resources} /Contents {5 + 2 * number} 0 R >>")
        objects.append(f"<< /Length {len(content.encode('cp1252'))} >>\nstream\n{content}\nendstream")
    objects.append(f"<< {information} >>")
    raw = b"%PDF-1.4\n"
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(raw))
        raw += f"{number} 0 obj\n{content}\nendobj\n".encode("cp1252")
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = f"/Size {len(objects) + 1} /Root 1 0 R /Info {len(objects)} 0 R {trailer}"
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<< {size} >>\n"
    end += f"startxref\n{len(raw)}\n%%EOF\n"
    return raw + end.encode("cp1252")


def docx(body: str, namespace: str = W, **parts: str) -> bytes:
    """A document with this body; `core`, `styles`, `numbering` and `footnotes` are the contents of those parts."""
    related = "".join(
        f'<Relationship Id="r{name}" Type="{OFFICE}/{name}" Target="{name}.xml"/>' for name in parts if name != "core"
    )
    relationships = f'<Relationships xmlns="{PACKAGE}/relationships">{{}}</Relationships>'
    core = '<Relationship Id="c" Type="http://x/metadata/core-properties" Target="docProps/core.xml"/>'
    main = f'<Relationship Id="m" Type="{OFFICE}/officeDocument" Target="/word/document.xml"/>'
    files = {
        "_rels/.rels": relationships.format(main + core),
        "word/_rels/document.xml.rels": relationships.format(related),
        "word/document.xml": f'<w:document xmlns:w="{namespace}" xmlns:mc="{MC}"><w:body>{body}</w:body></w:document>',
    }
    for name, content in parts.items():
        path = "docProps/core.xml" if name == "core" else f"word/{name}.xml"
        files[path] = f'<w:{name} xmlns:w="{namespace}">{content}</w:{name}>'
    return zipped(files)


def paragraph(text: str, style: str = "", properties: str = "") -> str:
    style = f'<w:pStyle w:val="{style}"/>' if style else ""
    return f"<w:p><w:pPr>{style}{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def epub(spine: list[str], parts: dict[str, str], items: str | None = None, metadata: str = METADATA) -> bytes:
    """A book whose items are its parts; `spine` lists them by name, which is their id."""
    if items is None:
        items = "".join(f'<item id="{name}" href="{name}" media-type="application/xhtml+xml"/>' for name in parts)
    references = "".join(f'<itemref idref="{name}"/>' for name in spine)
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<metadata>{metadata}</metadata><manifest>{items}</manifest>"
        f"<spine>{references}</spine></package>"
    )
    placed = {name if name.startswith("META-INF") else f"OEBPS/{name}": content for name, content in parts.items()}
    return zipped({"META-INF/container.xml": CONTAINER, "OEBPS/book.opf": package, **placed})


def xhtml(body: str) -> str:
    head = '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head>'
    return f"{head}<body>{body}</body></html>"
