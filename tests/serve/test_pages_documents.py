"""The pages on documents: windows over texts of any size, passages where they stand, and nothing hostile that runs."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_system import HOSTILE, StandIn, index_of, inert, stage

from hashing_encoder import make_document
from kit.tables import for_each
from lmworks.records import RejectedRecord
from lmworks.serve.pages import document_list, document_text
from lmworks.serve.pages.document_list import Entry
from lmworks.serve.pages.document_text import WINDOW, ChunkRange, Passage
from lmworks.serve.pages.documents_page import listing
from lmworks.workspace import Current

MARKDOWN = """\
# Leave

Every employee has twenty-eight days of paid leave a year. Leave is asked for in the calendar, two weeks ahead.

## Carrying over

At most five days are carried over into the next year, and they expire at the end of March, as was said in [1].
"""
LINES = "".join(f"line {number} of a long text\n" for number in range(4000))

leave = make_document(MARKDOWN, "docs:leave.md", "markdown", title="Leave", licence="CC0-1.0")
hostile = make_document(f"# {HOSTILE}\n\n{HOSTILE}\n", f"docs:{HOSTILE}.md", "markdown", title=HOSTILE, licence=HOSTILE)
long_line = make_document("x" * 2_000_000, "docs:one-line.txt")
many_lines = make_document(LINES, "docs:lines.txt", title="Many lines")
empty = make_document(" \n", "docs:empty.txt")
twin = make_document(MARKDOWN, "docs:zz-copy.md", "markdown", title="Leave, again")


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    root = tmp_path_factory.mktemp("shelf")
    reasons = (
        RejectedRecord("docs:a.png", "not text"),
        RejectedRecord(f"docs:{HOSTILE}", "not text"),
        RejectedRecord("many", "tests", 964),
    )
    folder = stage(root, "documents", "corpus.read", left_out=reasons)
    current = Current("handbook", "", {}, {"documents": folder}, {"documents": "corpus.read"})
    index = index_of(root / "index", [leave, hostile, long_line, many_lines, empty, twin])
    made = StandIn(root, index, current)
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(service):
    return service.client()


# ---------------------------------------------------------------------------------------------------------------------
# Windows


@given(st.data())
def test_the_window_holds_the_passage_and_its_segments_join_to_the_text(data):
    text = data.draw(st.sampled_from([LINES, "y" * 70_000, "a\n" * 40_000, "short", "é\u202e\n" * 9000]))
    length = data.draw(st.integers(0, WINDOW - WINDOW // 3))
    start = data.draw(st.integers(0, len(text)))
    cited = Passage(start, min(len(text), start + length))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=12)))
    chunks = [ChunkRange(n, low, high, ()) for n, (low, high) in enumerate(pairwise(cuts), start=1)]
    shown = document_text.window(text, chunks, cited)
    assert shown.start <= cited.start and cited.end <= shown.end
    assert shown.end - shown.start <= WINDOW + 2 * 400
    assert "".join(segment.text for segment in shown.segments) == text[shown.start : shown.end]
    assert "".join(s.text for s in shown.segments if s.cited) == text[cited.start : cited.end]
    assert sum(s.first for s in shown.segments) == (cited.start < cited.end)
    for segment in shown.segments:
        owners = [c.number for c in chunks if c.start <= segment.start < c.end]
        assert ([segment.chunk] if segment.chunk else []) == owners
        assert segment.opens is None or chunks[segment.opens - 1].start == segment.start


@for_each("text", [LINES, "q" * 100_000, "", "one line"])
def test_the_links_to_later_and_earlier_parts_walk_over_the_whole_text(text):
    seen, at = "", 0
    while True:
        part = document_text.window(text, [], None, at)
        seen += "".join(segment.text for segment in part.segments)
        if part.later is None:
            break
        at = part.later
    assert seen == text
    steps = 0
    while part.earlier is not None:
        earlier = document_text.window(text, [], None, part.earlier)
        assert earlier.start < part.start <= earlier.end
        part, steps = earlier, steps + 1
    assert part.start == 0 and steps <= len(text) // WINDOW + 1


@for_each(
    ("start", "end"),
    [
        ("5", None),
        (None, "5"),
        ("-1", "5"),
        ("6", "5"),
        ("0", "11"),
        ("a", "b"),
        ("٣", "5"),
        ("1" * 400, "5"),
        ("", ""),
    ],
)
def test_offsets_that_name_no_passage_are_refused(start, end):
    assert document_text.passage(10, None, None) is None
    assert document_text.passage(10, "2", "10") == Passage(2, 10)
    with pytest.raises(ValueError):
        document_text.passage(10, start, end)


def test_the_outline_names_each_heading_where_it_begins():
    paths = [("A",), ("A", "B"), ("A", "B"), ("A", "C", "D"), ("E",)]
    chunks = [ChunkRange(n, 10 * n, 10 * n + 9, path) for n, path in enumerate(paths, start=1)]
    found = [(h.title, h.start, h.level) for h in document_text.outline(chunks)]
    assert found == [("A", 10, 0), ("B", 20, 1), ("C", 40, 1), ("D", 40, 2), ("E", 50, 0)]


# ---------------------------------------------------------------------------------------------------------------------
# Lists


@given(st.text(max_size=900), st.text(max_size=60))
def test_an_excerpt_is_a_part_of_its_text_with_the_words_marked(text, question):
    runs = document_list.excerpt(text, question)
    joined = "".join(run.text for run in runs)
    assert joined.removeprefix("… ").removesuffix(" …") in text or joined in text
    assert len(joined) <= document_list.EXCERPT + 4
    hits = [run.text.casefold() for run in runs if run.hit]
    assert all(any(hit.startswith(word) for word in re.findall(r"\w+", question.casefold())) for hit in hits)


def test_an_excerpt_reaches_a_word_that_stands_far_in():
    text = "first words " * 100 + "the needle lies here " + "more words " * 100
    runs = document_list.excerpt(text, "Where is the needle?")
    assert [run.text for run in runs if run.hit] == ["needle"]


ENTRIES = [
    Entry("0" * 64, "docs:csv.py", "module csv", "text/plain", 0, 7),
    Entry("1" * 64, "docs:Readline.py", "module readline", "text/plain", 1, 6),
    Entry("2" * 64, "docs:argparse.md", "Parsing", "text/plain", 2, 5),
]


def test_names_are_matched_by_all_words_or_by_the_most():
    assert [e.uri for e in document_list.matching(ENTRIES, "MODULE read")] == ["docs:Readline.py"]
    assert [e.uri for e in document_list.alike(ENTRIES, "how do I read a csv module?")] == [
        "docs:csv.py",
        "docs:Readline.py",
    ]
    assert document_list.alike(ENTRIES, "the of") == ()


def test_a_list_is_sorted_and_its_heads_turn_the_order_round():
    by_name = listing(ENTRIES, "", "name", 1)
    assert [e.uri for e in by_name.entries] == ["docs:argparse.md", "docs:csv.py", "docs:Readline.py"]
    assert [c.state for c in by_name.columns] == ["ascending", "none", "none", "none"]
    assert by_name.columns[0].link == "/documents?sort=-name"
    by_size = listing(ENTRIES, "x y", "-tokens", 1)
    assert [e.tokens for e in by_size.entries] == [7, 6, 5]
    assert by_size.columns[3].link == "/documents?q=x+y&by=name&sort=tokens"


# ---------------------------------------------------------------------------------------------------------------------
# Over HTTP


def test_the_list_names_every_document_and_every_reason(client):
    page = inert(client.get("/documents").text)
    for document in (leave, hostile, long_line, many_lines, empty):
        assert f"/documents/{document.hash}" in page.links()
    assert "6 documents" in page.text and "966 sources did not become documents" in page.text
    assert "and 963 more" in page.text


def test_a_search_leads_to_the_passage_that_answers(client):
    page = inert(client.get("/documents", params={"q": "How many days are carried over?"}).text)
    first = next(link for link in page.links() if "start=" in link)
    shown = inert(client.get(first).text)
    assert first.endswith("#cite") and "carried over into the next year" in shown.by_id["cite"]


def test_the_highlight_is_exactly_the_code_points_asked_for(client):
    text = hostile.text
    place = text.index("\u202e")
    page = inert(client.get(f"/documents/{hostile.hash}", params={"start": place - 3, "end": place + 5}).text)
    assert page.by_id["cite"] == text[place - 3 : place + 5]


@for_each(
    "path", ["", "?q=%3Cscript%3Ealert(1)%3C/script%3E", "?q=needle&sort=document", "?q=x&by=name", f"/{hostile.hash}"]
)
def test_hostile_names_titles_questions_and_texts_are_shown_as_text(client, path):
    answer = client.get(f"/documents{path}")
    page = inert(answer.text)
    assert answer.status_code == 200
    if hostile.hash in path:
        assert "<script>alert(1)</script>" in page.text and "{{ 7*7 }}" in page.text
        assert page.text.count("\ufffd") >= 4  # the control characters that HTML cannot hold


def test_a_line_of_two_megabytes_is_a_small_page(client):
    for query in ("", "?start=1000000&end=1000100#cite", "?start=0&end=2000000", "?at=1999990"):
        answer = client.get(f"/documents/{long_line.hash}{query}")
        assert answer.status_code == 200 and len(answer.text) < 60_000
    page = inert(client.get(f"/documents/{long_line.hash}?start=1000000&end=1000100").text)
    assert page.by_id["cite"] == "x" * 100


def test_the_same_text_under_two_names_says_so(client):
    page = inert(client.get(f"/documents/{leave.hash}").text)
    assert "docs:leave.md" in page.text and "docs:zz-copy.md" in page.text and "CC0-1.0" in page.text


@for_each(
    ("path", "status"),
    [
        *((f"/documents/{leave.hash}?{query}", 400) for query in ("start=5", "start=9&end=5", "start=0&end=99999999")),
        *((f"/documents/{leave.hash}?{query}", 400) for query in ("start=%00&end=x", "at=99999999")),
        *((f"/documents?{query}", 400) for query in ("sort=size", "q=x&sort=size", "page=99", "page=-1")),
        *((f"/documents/{name}", 404) for name in ("0" * 64, "%3Cscript%3E")),
    ],
)
def test_what_does_not_exist_is_a_page_that_says_so(client, path, status):
    answer = client.get(path)
    assert answer.status_code == status and inert(answer.text)


def test_a_server_that_is_still_starting_or_failed_says_so(service):
    client = service.client()
    try:
        service.state = "starting"
        answer = client.get("/documents")
        assert answer.status_code == 503 and "being opened" in answer.text and answer.headers["Retry-After"]
        service.state, service.failure = "failed", HOSTILE
        for path in ("/documents", f"/documents/{leave.hash}", "/system"):
            assert "could not be opened" in inert(client.get(path).text).text
    finally:
        service.state, service.failure = "ready", ""
