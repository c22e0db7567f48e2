"""DOCX: what a reader of the document sees, in its order, whatever elements it is wrapped in."""

import pytest

from kit.made_documents import STRICT, docx
from kit.made_documents import paragraph as p
from kit.tables import for_each
from lmworks.corpus.documents import UnusableError
from lmworks.corpus.extract.docx import extract_docx

STYLES = """
<w:style w:type="paragraph" w:styleId="berschrift2"><w:name w:val="heading 2"/></w:style>
<w:style w:type="paragraph" w:styleId="Own"><w:name w:val="Own"/><w:basedOn w:val="berschrift2"/></w:style>
<w:style w:type="paragraph" w:styleId="T"><w:name w:val="Title"/></w:style>
<w:style w:type="paragraph" w:styleId="A"><w:name w:val="A"/><w:basedOn w:val="B"/></w:style>
<w:style w:type="paragraph" w:styleId="B"><w:name w:val="B"/><w:basedOn w:val="A"/></w:style>
<w:style w:type="paragraph" w:styleId="L"><w:name w:val="List Bullet"/></w:style>"""
NUMBERING = """
<w:abstractNum w:abstractNumId="0"><w:lvl w:ilvl="0"><w:numFmt w:val="bullet"/><w:pStyle w:val="L"/></w:lvl>
  <w:lvl w:ilvl="1"><w:start w:val="3"/><w:numFmt w:val="decimal"/></w:lvl></w:abstractNum>
<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>"""
FOOTNOTES = """
<w:footnote w:id="-1" w:type="separator"><w:p><w:r><w:t>line</w:t></w:r></w:p></w:footnote>
<w:footnote w:id="7"><w:p><w:r><w:footnoteRef/><w:t>The note.</w:t></w:r></w:p></w:footnote>"""


def item(text: str, level: int) -> str:
    return p(text, properties=f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="1"/></w:numPr>')


def cell(content: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{content}</w:tc>"


def text_of(body: str, **parts: str) -> str:
    return extract_docx(docx(body, **parts)).text


def test_headings_are_known_by_the_names_of_their_styles() -> None:
    body = p("Book", "T") + p("Part", "berschrift2") + p("Chapter", "Own") + p("text", "A")
    body += p("Deep", properties='<w:outlineLvl w:val="2"/>') + p("body", "Own", '<w:outlineLvl w:val="9"/>')
    extracted = extract_docx(docx(body, styles=STYLES))
    assert extracted.text == "# Book\n\n## Part\n\n## Chapter\n\ntext\n\n### Deep\n\nbody"
    assert extracted.title == "Book"


def test_lists_are_numbered_and_nested() -> None:
    body = p("one", "L") + item("a", 1) + item("b", 1) + item("two", 0) + item("c", 1) + p("end")
    assert text_of(body, styles=STYLES, numbering=NUMBERING) == "- one\n  1. a\n  2. b\n- two\n  1. c\n\nend"


TRACKED = (
    "<w:p><w:r><w:t>kept </w:t></w:r><w:ins><w:r><w:t>new </w:t></w:r></w:ins>"
    "<w:del><w:r><w:delText>old</w:delText></w:r></w:del><w:moveFrom><w:r><w:t>there</w:t></w:r></w:moveFrom>"
    "<w:moveTo><w:r><w:t>here</w:t></w:r></w:moveTo></w:p>"
)
RUNS = (
    "<w:p><w:hyperlink><w:r><w:t>link</w:t></w:r></w:hyperlink>"
    "<w:r><w:fldChar/><w:instrText>PAGE</w:instrText></w:r>"
    "<w:r><w:tab/><w:t>x</w:t><w:br/><w:br/></w:r><w:r><w:rPr/><w:t>    y  z</w:t><w:noBreakHyphen/></w:r>"
    "<w:r><w:sym w:font='Wingdings' w:char='F0FC'/></w:r><w:fldSimple><w:r><w:t> 7</w:t></w:r></w:fldSimple>"
    "<w:r><w:ruby><w:rt><w:r><w:t>kan</w:t></w:r></w:rt><w:rubyBase><w:r><w:t>漢</w:t></w:r></w:rubyBase></w:ruby></w:r>"
    "<w:r><w:rPr><w:b/></w:rPr><w:t> bold</w:t></w:r><w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r></w:p>"
)
CONTROLLED = f"<w:sdt><w:sdtPr/><w:sdtContent>{p('controlled')}</w:sdtContent></w:sdt>"
BOX = f"<w:txbxContent>{p('boxed')}</w:txbxContent>"
BOXED = (
    f"<w:p><w:r><w:t>around</w:t></w:r><w:r><mc:AlternateContent><mc:Choice><w:drawing>{BOX}</w:drawing></mc:Choice>"
    f"<mc:Fallback><w:pict>{BOX}</w:pict></mc:Fallback></mc:AlternateContent></w:r></w:p>"
)
ROWS = (
    cell(p("a") + p("b"), '<w:gridSpan w:val="2"/>') + cell(p("c|d")),
    cell(p("e"), '<w:vMerge w:val="restart"/>') + cell(p("f")) + cell(p("g")),
    cell(p("hidden"), "<w:vMerge/>") + cell(p("h")) + cell(p("i")),
    "<w:trPr><w:del/></w:trPr>" + cell(p("gone")),
)
TABLE = "<w:tbl>" + "".join(f"<w:tr>{row}</w:tr>" for row in ROWS) + "</w:tbl>"


@for_each(
    ("body", "text"),
    [
        (TRACKED, "kept new here"),
        (RUNS, "link x\n\n    y  z\u2011✓ 7漢 bold"),
        (CONTROLLED, "controlled"),
        (BOXED + p("next"), "around\n\nboxed\n\nnext"),
        (
            p("before") + TABLE + p("after"),
            "before\n\n| a b |  | c\\|d |\n| --- | --- | --- |\n| e | f | g |\n|  | h | i |\n\nafter",
        ),
        ("<w:tbl><w:tr>" + cell(p("a") + p("b")) + "</w:tr></w:tbl>", "a\n\nb"),  # a frame, no table
    ],
)
def test_the_text_is_what_a_reader_sees(body: str, text: str) -> None:
    assert text_of(body) == text


def test_notes_are_at_the_end() -> None:
    reference = '<w:r><w:footnoteReference w:id="7"/></w:r>'
    body = f"<w:p><w:r><w:t>Claim</w:t></w:r>{reference}</w:p>" + p("more")
    assert text_of(body, footnotes=FOOTNOTES) == "Claim[1]\n\nmore\n\n1. The note."


def test_properties_and_the_strict_edition() -> None:
    core = "<w:title>A  title</w:title><w:created>2024-05-01T10:00:00Z</w:created><w:language>de</w:language>"
    extracted = extract_docx(docx(p("text"), STRICT, core=core))
    assert (extracted.text, extracted.title) == ("text", "A title")
    assert extracted.metadata == {"date": "2024-05-01", "language": "de"}


@for_each(("raw", "reason"), [
    (b"\xd0\xcf\x11\xe0" + b"\0" * 99, "encrypted, or in the old format"), (b"PK\x03\x04", "no ZIP archive"),
    (b"", "no ZIP archive"), (docx(p(" ")), "without text"), (docx("<w:p>" + "<" * 9), "not well-formed"),
    (docx(p("x")).replace(b"word/document.xml", b"word/document.xmk"), "no document of Word"),
])  # fmt: skip
def test_what_gives_no_text_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(UnusableError, match=reason):
        extract_docx(raw)
