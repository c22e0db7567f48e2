"""Excerpts with what went of them marked: nothing is lost or invented, and nothing in them acts on the page."""

import html
import io
import re

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lmworks.excerpts import Passage, Piece, Place, marked, passage_html, passage_text, visible, window
from lmworks.report import Fold, Section, Table, print_sections, to_html

TEXT = st.text("abc\n <&", max_size=40)
NUMBER = st.integers(0, 40)


@st.composite
def places(draw) -> tuple[str, list[Place]]:
    """A text, and places of it that do not overlap."""
    text = draw(TEXT)
    ends = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    pairs = zip(ends[::2], ends[1::2], strict=False)
    return text, [
        Place(start, end, draw(st.sampled_from(["", "X", "<Y>"])), draw(st.sampled_from(["removed", "other"])))
        for start, end in pairs
    ]


@given(places())
def test_the_pieces_are_the_text_before_and_after(case):
    """Without what was added they are the text; without what was removed, the text with every place replaced."""
    text, found = case
    pieces = marked(text, found, 0, len(text), most=1000)
    assert "".join(piece.text for piece in pieces if piece.change not in ("added", "written")) == text
    edited = text
    for place in reversed(found):
        edited = edited[: place.start] + place.replacement + edited[place.end :]
    assert "".join(piece.text for piece in pieces if piece.change not in ("removed", "other")) == edited


@given(places(), NUMBER, NUMBER)
def test_an_excerpt_is_the_text_of_its_window(case, one, other):
    text, found = case
    start, end = sorted((one, other))
    pieces = marked(text, found, start, end, most=1000)
    shown = "".join(piece.text for piece in pieces if piece.change not in ("added", "written"))
    shown = shown.removeprefix("… ") if start > 0 else shown
    shown = shown.removesuffix(" …") if end < len(text) else shown
    assert shown == text[start:end]


def test_of_a_long_place_the_middle_is_counted():
    pieces = marked("a" * 50 + "b" * 50, [Place(0, 100)], 0, 100, most=10)
    assert pieces == (Piece("aaaaa [… 90 characters …] bbbbb", "removed"),)
    assert window(500, 5000, 20, 100) == (480, 620)


@given(st.text())
def test_what_is_not_seen_is_shown_by_its_code_point(text):
    shown = visible(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    assert re.sub("<U\\+([0-9A-F]{4,6})>", lambda found: chr(int(found[1], 16)), shown) == re.sub(
        "<U\\+([0-9A-F]{4,6})>", lambda found: chr(int(found[1], 16)), text
    )


def test_known_characters_that_are_not_seen():
    assert visible("a\u202eb\x1b[31m\ud800\u200b") == "a<U+202E>b<U+001B>[31m<U+D800><U+200B>"
    assert visible("می\u200cخواهم 👩\u200d👧\tx\n") == "می\u200cخواهم 👩\u200d👧\tx\n"  # joiners are part of words


@given(st.lists(st.builds(Piece, st.text(), st.sampled_from(["", "removed", "added", "other", "written", "marked"]))))
def test_a_page_shows_every_text_and_holds_no_other_element(pieces):
    page = passage_html(Passage("<b>&\u202e", tuple(pieces), "</p><script>", "x", tuple(pieces)))
    assert set(re.findall(r"</?([a-z0-9]+)", page)) <= {"article", "h4", "p", "div", "del", "ins", "s", "u", "mark"}
    texts = re.findall(r'<div class="text"[^>]*>(.*?)</div>', page, re.DOTALL)
    wanted = "".join(visible(piece.text) for piece in pieces)
    assert [html.unescape(re.sub(r"</?(del|ins|s|u|mark)>", "", text)) for text in texts] == [wanted] * (
        1 + bool(pieces)
    )


def test_a_terminal_without_colours_tells_the_pieces_apart():
    pieces = [Piece("a "), Piece("[b]", "removed"), Piece("c\x1b", "added"), Piece("d", "marked")]
    assert passage_text(pieces, colour=False).plain == "a [-[b]-]{+c<U+001B>+}»d«"
    assert passage_text(pieces, colour=True).plain == "a [b]c<U+001B>d"


def test_alarms_stand_above_all_on_the_page_and_last_in_a_terminal():
    fold = Fold("Inside", tables=(Table(("n",), ((1,),)),), passages=(Passage("p", (Piece("gone", "removed"),)),))
    sections = [
        Section("First", "see `a_b.md`"),
        Section("Second", folds=(fold,), alarms=("[red]half of <s> went",)),
        Section("Third"),
    ]
    page = to_html("T", "", sections)
    assert page.index("half of &lt;s&gt; went") < page.index("<nav>") < page.index("First")
    assert "<details><summary>Inside</summary>" in page and "<del>gone</del>" in page and "<code>a_b.md</code>" in page
    stream = io.StringIO()
    print_sections(Console(file=stream, width=80), sections)
    told = stream.getvalue()
    assert told.index("Third") < told.index("ALARM [red]half of <s> went")
    assert 'class="alarm"' not in to_html("T", "", sections[:1])


def test_a_section_that_is_only_for_the_page_is_named_in_a_terminal():
    sections = [Section("Long [x]", "told at length", page_only=True, alarms=("look",)), Section("Short", "told")]
    stream = io.StringIO()
    print_sections(Console(file=stream, width=80), sections)
    assert stream.getvalue() == "\nShort\ntold\n\nOnly in the report: Long [x]\n\nALARM look\n"
    assert "told at length" in to_html("T", "", sections)
