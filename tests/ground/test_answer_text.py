"""The text of an answer is Markdown that any client reads alike, and comes back as the parts it was written from."""

import re
from textwrap import indent

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from hashing_encoder import make_document
from kit.tables import for_each
from lmworks.ground.answer_text import Part, answer_parts, answer_text, markdown_parts
from lmworks.ground.candidate_sentences import Candidate
from lmworks.records import Document, Retrieved, Span, Verdict
from lmworks.retrieve.document_structure import parse
from lmworks.retrieve.evidence_unit import evidence_units

CODE = "with open(path) as file:\n    for line in file:\n        print(line)"
TABLE = "| flag | what it does |\n|------|--------------|\n| `-v` | says more      |\n| `-q` | says less      |"
MARKDOWN = f"# Files\n\nIt is closed at the end, as `this` is.\n\nRead:\n\n```python\n{CODE}\n```\n\nThen:\n\n{TABLE}\n"
INDENTED = f"Files\n=====\n\nThe ``with`` statement closes it::\n\n{indent(CODE, '    ')}\n\nThat is all there is.\n"
MIXED_CODE = "cm = given or nullcontext()\nwith cm:\n    work()"
MIXED = f"Used where code runs with\nand without one:\n\n{MIXED_CODE}\n"
LISTED = "It goes so:\n\n1. The file is\n   opened,\n   and closed.\n"
NESTED = "# Fences\n\nWrite a fence in a fence as follows:\n\n````\n```\ninner\n```\n````\n"


def cite(document: Document, begins: str) -> tuple[Verdict, Candidate, Retrieved]:
    """The citable unit that begins so."""
    text = document.text
    units = [unit for part in parse(document) for unit in evidence_units(text, part.blocks, 0, len(text))]
    start, end, kind = next(unit for unit in units if text[unit.start :].startswith(begins))
    span = Span(document.hash, start, end)
    candidate = Candidate(text[start:end], span, 0, document.uri, "Guide > Files", kind)
    passage = Retrieved("c", Span(document.hash, 0, len(text)), document.uri, text, {})
    return Verdict(text[start:end], "quoted", span, document.uri, 0.9, None, "cited"), candidate, passage


@for_each(
    ("text", "extractor", "begins", "parts"),
    [
        (MARKDOWN, "markdown", "It is", [("Files: It is closed at the end, as this is.", False)]),
        (MARKDOWN, "markdown", "Read", [("Read:", False), (CODE, True)]),
        (MARKDOWN, "markdown", "Then", [("Then:", False), (TABLE, True)]),
        (INDENTED, "rest", "The ``with``", [("The with statement closes it:", False), (CODE, True)]),
        (LISTED, "plain", "It goes", [("Files: It goes so: 1. The file is opened, and closed.", False)]),
        (MIXED, "plain", "Used", [("Used where code runs with and without one:", False), (MIXED_CODE, True)]),
        (INDENTED, "rest", "That", [("Files: That is all there is.", False)]),
        (NESTED, "markdown", "Write", [("Write a fence in a fence as follows:", False), ("```\ninner\n```", True)]),
    ],
)
def test_code_and_tables_are_fenced_once_and_come_back_with_their_lines(text, extractor, begins, parts):
    document = make_document(text, "docs:files", extractor)
    citation, candidate, passage = cite(document, begins)
    said = answer_text([citation], [candidate], [passage])
    found = answer_parts(said, [citation], {document.hash: document})
    assert [(part.text, part.code) for part in found] == parts
    assert [part.number for part in found] == [None] * (len(parts) - 1) + [1]
    fences = [token.content for token in MarkdownIt().parse(said) if token.type in ("fence", "code_block")]
    assert fences == [f"{part.text}\n" for part in found if part.code]  # as CommonMark reads it


def test_several_citations_keep_their_numbers_and_what_looks_like_a_mark_is_text():
    document = make_document('The "with" statement wraps a block. See [1].\nIt is\n  indented [2]\nhere.', "docs:with")
    spans = [(0, 44), (45, len(document.text))]
    citations = [
        Verdict(document.text[a:b], "quoted", Span(document.hash, a, b), document.uri, 0.9, None, "cited")
        for a, b in spans
    ]
    text = f"Blocks: {document.text[:44]} [1]\n{document.text[45:]} [2]\n```\nx[1]\n```\nno more"
    assert answer_parts(text, citations) == (
        Part('Blocks: The "with" statement wraps a block. See [1].', number=1),
        Part("It is\n  indented [2]\nhere.", number=2),
        Part("x[1]", code=True),
        Part("no more"),
    )


@given(st.text(alphabet="[]12`\n ab", max_size=60), st.integers(0, 2))
def test_no_word_of_an_answer_is_lost_and_citations_are_counted_in_order(text, count):
    document = make_document("a quote of ten", "docs:ten")
    citation = Verdict("a quote of", "quoted", Span(document.hash, 0, 10), "docs:ten", 0.9, None, "cited")
    found = answer_parts(text, [citation] * count, {document.hash: document})
    numbers = [part.number for part in found if part.number]
    assert numbers == list(range(1, 1 + len(numbers)))
    without_fences = re.sub(r"^ {0,3}```[^\n`]*$", "", text, flags=re.MULTILINE)
    assert sum(part.text.count("a") for part in found) >= without_fences.count("a")


def test_code_is_told_from_text():
    text = "Before\n\n```python\na = 1\n\nb = 2\n```\nbetween `x`\n````\n```\nopen <b>"
    assert [(part.text, part.code) for part in markdown_parts(text)] == [
        ("Before", False),
        ("a = 1\n\nb = 2", True),
        ("between `x`", False),
        ("```\nopen <b>", True),
    ]
