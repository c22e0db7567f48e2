"""Word lists against a scan that tries every entry at every place."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.taggers.tagger import Text
from lmworks.corpus.taggers.word_list import compile_words, find_words, read_word_list, word_list

UNSPACED = "世界ひกカ"
WORDS = st.text(st.sampled_from([*"aAbB1_-.$", *UNSPACED]), min_size=1, max_size=4)
ENTRIES = st.lists(
    st.lists(WORDS, min_size=1, max_size=2).map(" ".join).filter(lambda entry: any(map(str.isalnum, entry))),
    min_size=1,
    max_size=12,
)
TEXTS = st.lists(WORDS | ENTRIES.map(lambda entries: entries[0])).map(" ".join)


def is_joined(character: str) -> bool:
    return (character.isalnum() or character == "_") and character not in UNSPACED


def scan(entries: list[str], text: str) -> list[tuple[int, int]]:
    """The longest entry at the first place, then the same behind it."""
    found, at = [], 0
    lower = text.casefold()
    while at < len(lower):
        ends = []
        for entry in {each.casefold() for each in entries}:
            end = at + len(entry)
            if (
                lower.startswith(entry, at)
                and not (at and is_joined(entry[0]) and is_joined(lower[at - 1]))
                and not (end < len(lower) and is_joined(entry[-1]) and is_joined(lower[end]))
            ):
                ends.append(end)
        if ends:
            found.append((at, max(ends)))
        at = max(ends, default=at + 1)
    return found


@given(ENTRIES, TEXTS)
def test_places_are_those_of_the_scan(entries: list[str], text: str) -> None:
    assert list(find_words(compile_words(entries), text)) == scan(entries, text)


LONGER = st.sampled_from(["Straße", "STRASSE", "strasse", "ß", "ﬁn", "FIN", "İ", "ŉ", " ", "x", "Σας"])


@given(st.lists(LONGER).map("".join))
def test_places_are_those_of_the_text_where_letters_get_longer(text: str) -> None:
    places = list(find_words(compile_words(["Strasse", "fin", "σασ"]), text))
    for start, end in places:
        assert text[start:end].casefold() in {"strasse", "fin", "σασ"}
    alone = re.findall(r"(?<![^\W_])[^\W_]+(?![^\W_])", text)
    assert len(places) >= sum(word.casefold() in {"strasse", "fin", "σασ"} for word in alone)


@given(ENTRIES, TEXTS)
def test_case_does_not_matter(entries: list[str], text: str) -> None:
    expected = list(find_words(compile_words(entries), text))
    assert list(find_words(compile_words([entry.upper() for entry in entries]), text.swapcase())) == expected


def test_share_and_marks() -> None:
    annotate = word_list("unwanted", ["Bad", "very bad  thing", "世界"]).tag
    text = Text("A very\n bad thing, badly done; BAD. Hello世界人")
    found = annotate(text)
    assert [text.text[mark.start : mark.end] for mark in found.spans] == ["very\n bad thing", "BAD", "世界"]
    assert {mark.rule for mark in found.spans} == {"unwanted"}
    assert found.scores == {"unwanted_share": (3 + 1 + 2) / len(text.words)}
    assert annotate(Text("all is well")).scores == {"unwanted_share": 0}
    assert annotate(Text("...")).scores == {}


def test_a_word_goes_on_with_its_accents() -> None:
    pattern = compile_words(["cafe", "हिन्द"])
    assert list(find_words(pattern, "cafe\u0301 हिन्दी")) == []
    assert list(find_words(pattern, "cafe हिन्द")) == [(0, 4), (5, 10)]


@pytest.mark.slow  # some tens of seconds of timing
def test_many_entries_take_no_longer_than_few() -> None:
    pattern = compile_words([f"word{number}" for number in range(20_000)])
    text = " ".join(f"word{number}x word{number}" for number in range(5_000))
    assert len(list(find_words(pattern, text))) == 5_000


def test_files(tmp_path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("\ufeffone\n\n  two  words \r\nthree\n", "utf-8")
    assert read_word_list(path).tag(Text("One two\twords, four")).scores == {"mine_share": 3 / 4}
    path.write_text("\n \n")
    with pytest.raises(ValueError, match="holds no word"):
        read_word_list(path)
    path.write_text("one\n--\n")
    with pytest.raises(ValueError, match="'--' is no word"):
        read_word_list(path)
    path.write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_word_list(path)
    with pytest.raises(ValueError, match="needs a word"):
        compile_words([])
