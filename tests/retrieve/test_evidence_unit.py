"""Citable units, by a page split by hand."""

from lmworks.records import Document
from lmworks.retrieve.document_structure import parse
from lmworks.retrieve.evidence_unit import evidence_units


def units_of(document: Document, start: int, end: int) -> list[str]:
    blocks = [block for section in parse(document) for block in section.blocks]
    return [document.text[first:last] for first, last, _ in evidence_units(document.text, blocks, start, end)]


def test_evidence_units_are_sentences_short_blocks_and_whole_code_with_what_leads_to_it() -> None:
    long = "This sentence fills the paragraph up until it is no longer short. " * 5
    text = f"# T\n\nFirst. {long}Second one:\n\n```\nx. Y = 1\nz\n```\n\nThird. Fourth.\n"
    document = Document(text, "u", "", "markdown", "1", "")
    code = "Second one:\n\n```\nx. Y = 1\nz\n```"
    found = units_of(document, 0, len(text))
    assert found[0] == "First." and set(found[1:6]) == {long[: len(long) // 5].strip()}
    assert found[6:] == [code, "Third. Fourth."]
    assert units_of(document, text.index("Second"), text.index("Fourth")) == [code, "Third."]
    signature = Document("## cut(x, *, at=1)\n\nCuts it.\n\n## Notes\n\nSharp.", "u", "", "markdown", "1", "")
    assert units_of(signature, 0, len(signature.text)) == ["cut(x, *, at=1)", "Cuts it.", "Sharp."]
