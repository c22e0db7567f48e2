"""An index of cleaned docstrings names their sections rightly: headings are where they were moved to by the edits."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lmworks.build import run_alone
from lmworks.corpus.documents import DocumentStore
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.filtering.filtered_shards import moved_headings
from lmworks.corpus.sources.docstrings import extract_docstrings
from lmworks.records import Document, Edit
from lmworks.retrieve.document_structure import parse

SOURCE = '''"""The bakery. Write to jane.miller@bakery-miller.com or to bob.miller@bakery-miller.com.

# no heading, whatever it looks like
"""

def bake(oven):
    """Bakes. Call +41 44 668 18 00 when the oven is cold."""

class Bread:
    """A loaf of bread, as it comes out of the oven of the bakery in the morning."""

    def slice(self, width):
        """Slices it. Ask jane.miller@bakery-miller.com for the width."""
'''


def test_the_sections_of_a_cleaned_module_have_their_names(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "bakery.py").write_text(SOURCE)
    settings = [f'sources=["{tmp_path / "code"}"]', 'source_code="docstrings"']
    run_alone("data.read", tmp_path / "documents", [], [], settings)
    run_alone("data.annotate", tmp_path / "annotations", [tmp_path / "documents"], [], [])
    steps = 'steps=[{name="personal", marks={"pii.*"={action="redact"}}}]'
    run_alone("data.clean", tmp_path / "cleaned", [tmp_path / "documents", tmp_path / "annotations"], [], [steps])
    (cleaned,) = DocumentStore(tmp_path / "cleaned")
    assert cleaned.text.count("<EMAIL>") == 3 and cleaned.text.count("<PHONE>") == 1
    named = {section.heading_path[-1]: section for section in parse(cleaned)}
    assert list(named) == ["module bakery", "bake(oven)", "class Bread", "Bread.slice(self, width)"]
    for name, first in (("bake(oven)", "Bakes."), ("class Bread", "A loaf"), ("Bread.slice(self, width)", "Slices")):
        assert cleaned.text[named[name].blocks[1].start :].startswith(first)


def modules(*names: str) -> Document:
    source = "\n".join(f'def {name}():\n    """About {name}."""\n' for name in names)
    found = extract_docstrings(source.encode(), "m")
    return Document(found.text, "u", "", found.extractor, "1", "", metadata=found.metadata)


@given(st.data())
def test_headings_stay_where_their_sign_stays(data):
    document = modules("first", "second", "third")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(document.text)), max_size=8, unique=True)))
    edits = [
        Edit(start, end, data.draw(st.sampled_from(["", "<X>", "\n"])), "r")
        for start, end in zip(cuts[::2], cuts[1::2], strict=False)
    ]
    text = apply_edits(document.text, edits).text
    offsets = [int(offset) for offset in moved_headings(document, edits)["headings"].split()]
    before = [int(offset) for offset in document.metadata["headings"].split()]
    stay = [offset for offset in before if not any(edit.start <= offset < edit.end for edit in edits)]
    assert offsets == sorted(offsets) and len(offsets) == len(stay)
    assert all(text[offset] == "#" for offset in offsets)
    moved = Document(text, "u", "", document.extractor, "1", "", metadata=moved_headings(document, edits))
    blocks = [block for section in parse(moved) for block in section.blocks]
    assert all(one.end <= other.start for one, other in pairwise(blocks))


def test_a_heading_that_lost_the_end_of_its_line_ends_where_the_next_begins():
    document = modules("first", "second")
    start, end = (document.text.index(words) for words in ("\n\nAbout first", "## second"))
    edits = [Edit(start, end, "", "r")]
    text = apply_edits(document.text, edits).text
    moved = Document(text, "u", "", document.extractor, "1", "", metadata=moved_headings(document, edits))
    paths = [section.heading_path[-1] for section in parse(moved)]
    assert paths == ["first()", "second()"]


def test_other_documents_keep_what_their_metadata_call_headings():
    assert moved_headings(Document("a", "u", "", "row", "1", "", metadata={"headings": "H1"}), []) == {}
