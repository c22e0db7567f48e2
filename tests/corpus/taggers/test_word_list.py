"""Word lists against a scan that tries every entry at every place."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.corpus.taggers.tagger import Text
from lmworks.corpus.taggers.word_list import read_word_list, word_list

WORDS = st.text(st.sampled_from([*"aAbB1-.$世界"]), min_size=1, max_size=4)
ENTRY = st.lists(WORDS, min_size=1, max_size=2).map(" ".join).filter(lambda entry: any(map(str.isalnum, entry)))
ENTRIES = st.lists(ENTRY, min_size=1, max_size=12)


def finds(entries: list[str], text: str) -> list[str]:
    return [text[span.start : span.end] for span in word_list("listed", entries).tag(Text(text)).spans]


@given(ENTRIES, st.lists(WORDS | ENTRY).map(" ".join))
def test_places_are_those_of_the_scan(entries: list[str], text: str) -> None:
    """The longest entry at the first place, then the same behind it; no letter or digit goes on with a word."""
    pieces = re.compile(r"[a-z1](?:[a-z1]|(?<=1)\.(?=1))*|\S")
    wanted = {tuple(pieces.findall(entry.lower())) for entry in entries}
    found = list(pieces.finditer(text.lower()))
    places, at = [], 0
    while at < len(found):
        lengths = [n for n in range(len(found) - at, 0, -1) if tuple(m[0] for m in found[at : at + n]) in wanted]
        places += [text[found[at].start() : found[at + n - 1].end()] for n in lengths[:1]]
        at += lengths[0] if lengths else 1
    assert finds(entries, text) == places


@for_each(("entries", "text", "expected"), [
    (["Strasse"], "Straße STRASSE Straßen", ["Straße", "STRASSE"]),
    (["cafe", "हिन्द"], "cafe\u0301 हिन्दी cafe हिन्द", ["cafe", "हिन्द"]),
    (["bad"], "bad-mannered, bad's, badly, snake_bad", ["bad", "bad"]), (["世界"], "Hello世界人", ["世界"]),
    (["f***"], "f *** and f***", ["f ***", "f***"]),
])  # fmt: skip
def test_examples(entries: list[str], text: str, expected: list[str]) -> None:
    assert finds(entries, text) == expected


def test_the_share_is_of_words() -> None:
    tag = word_list("unwanted", ["Bad", "very bad  thing", "世界"]).tag
    text = Text("A very\n bad thing, badly done; BAD. Hello世界人")
    assert tag(text).scores == {"unwanted_share": (3 + 1 + 2) / len(text.words)}
    assert (tag(Text("all is well")).scores, tag(Text("...")).scores) == ({"unwanted_share": 0}, {})


def test_files(tmp_path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("\ufeffone\n\n  two  words \r\nthree\n", "utf-8")
    assert read_word_list(path).tag(Text("One two\twords, four")).scores == {"mine_share": 3 / 4}
    for content in (b"\n \n", b"one\n--\n", b"caf\xe9"):
        path.write_bytes(content)
        with pytest.raises(ValueError):
            read_word_list(path)
