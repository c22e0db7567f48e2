"""What stays of a document beside its text: titles and metadata are cleaned as texts are, and headings move with it."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from attribute_tables import table
from kit.tables import for_each
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.filtering.apply import apply, moved_headings
from lmworks.corpus.filtering.decide import decide
from lmworks.corpus.filtering.filter_policy import OnSpan, Policy, Step, default_policy
from lmworks.corpus.sources.docstrings import extract_docstrings
from lmworks.corpus.taggers.pii.metadata import metadata_spans
from lmworks.corpus.taggers.pii.scan import find_personal_data
from lmworks.records import Document, Edit
from lmworks.retrieve.document_structure import parse

MAIL, PHONE = "jane.miller@bakery-miller.com", "+41 44 668 18 00"
REDACT = Step("personal", marks={"pii.*": OnSpan("redact", 0.5)})


def document(title: str = "", extractor: str = "row", text: str = "A text.", **metadata: str) -> Document:
    return Document(text, "s/a", "text/plain", extractor, "1", "0" * 64, title=title, source="s", metadata=metadata)


def cleaned(given: Document, *steps: Step) -> Document | None:
    """The document as the steps leave it, with what is found in its text and beside it."""
    spans = tuple(sorted((*metadata_spans(given), *find_personal_data(given.text))))
    found, policy = table([given.uri], spans=[spans]), Policy(steps)
    return apply(given, 0, found, policy, decide(policy, found))[1]


@for_each(("extractor", "metadata", "left"), [
    ("row", {"author": f"Jane <{PHONE}>", "section": "news"}, {"author": "Jane <<PHONE>>", "section": "news"}),
    ("row", {"user_password": "correct horse", "token": "x"}, {"user_password": "<PASSWORD>", "token": "x"}),
    ("row", {MAIL: "a", "jo@bakery-miller.com": "b"}, {"<EMAIL>": "a", "<EMAIL>-2": "b"}),
    ("mail", {"charset": MAIL, "date": "2010-01-01"}, {"charset": "<EMAIL>", "date": "2010-01-01"}),
])  # fmt: skip
def test_metadata_are_cleaned(extractor, metadata, left):
    found = cleaned(document(extractor=extractor, **metadata), REDACT)
    assert found is not None and found.metadata.items() >= left.items() and len(found.metadata) == len(left) + 1


PIECES = st.sampled_from([
    MAIL, PHONE, "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "93.184.216.34", "https://x.com/johndoe",
    "password=hunter2!x", " ", ", ", "call ", "<", "1", "of the", "\n",
])  # fmt: skip
WORDS = st.lists(PIECES, min_size=1, max_size=6).map("".join)


@given(WORDS, st.sampled_from(["cut", "redact"]), st.sampled_from([0.5, 0.9]))
def test_a_title_becomes_what_a_text_of_the_same_words_becomes(words, action, at_least):
    left = cleaned(
        document(words, text=words),
        Step("cards", marks={"pii.card": OnSpan("cut", 0.6), "pii.i*": OnSpan("redact")}),
        Step("others", kinds=("web",), marks={"*": OnSpan("cut")}),
        Step("all", marks={"pii.*": OnSpan(action, at_least)}),
    )
    assert left is None or left.title == left.text


@given(WORDS)
def test_nothing_that_the_default_policy_takes_is_found_in_a_title_afterwards(title):
    left = cleaned(document(title), *(step for step in default_policy().steps if step.marks))
    assert left is not None and find_personal_data(left.title) == ()


@given(st.data())
def test_headings_stay_where_their_sign_stays(data):
    source = "\n".join(f'def {name}():\n    """About {name}."""\n' for name in ("first", "second", "third"))
    found = extract_docstrings(source.encode(), "m")
    module = Document(found.text, "u", "", found.extractor, "1", "", metadata=found.metadata)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(module.text)), max_size=8, unique=True)))
    edits = [
        Edit(start, end, data.draw(st.sampled_from(["", "<X>", "\n"])), "r")
        for start, end in zip(cuts[::2], cuts[1::2], strict=False)
    ]
    text = apply_edits(module.text, edits).text
    offsets = [int(offset) for offset in moved_headings(module, edits)["headings"].split()]
    before = [int(offset) for offset in module.metadata["headings"].split()]
    stay = [offset for offset in before if not any(edit.start <= offset < edit.end for edit in edits)]
    assert offsets == sorted(offsets) and len(offsets) == len(stay)
    assert all(text[offset] == "#" for offset in offsets)
    moved = Document(text, "u", "", module.extractor, "1", "", metadata=moved_headings(module, edits))
    blocks = [block for section in parse(moved) for block in section.blocks]
    assert all(one.end <= other.start for one, other in pairwise(blocks))
