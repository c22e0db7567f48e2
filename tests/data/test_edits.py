"""Edits against a character-by-character definition of what they mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.data.edits import OverlapError, apply_edits
from lmworks.records import Edit


@st.composite
def edited_texts(draw: st.DrawFn) -> tuple[str, list[Edit]]:
    """A text and edits that do not meet, in any order."""
    text = draw(st.text(max_size=40))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    edits = {
        (start, end): Edit(start, end, draw(st.text(max_size=5)), "rule")
        for start, end in zip(cuts[::2], cuts[1::2], strict=False)
    }
    return text, draw(st.permutations(list(edits.values())))


def by_character(text: str, edits: list[Edit]) -> list[tuple[str, int, int]]:
    """Each character of the cleaned text with the source range it stands for."""
    result = []
    starts = {edit.start: edit for edit in edits if edit.start < edit.end}
    inserts = {edit.start: edit for edit in edits if edit.start == edit.end}
    position = 0
    while position <= len(text):
        if position in inserts:
            result += [(c, position, position) for c in inserts[position].replacement]
        if position in starts:
            edit = starts[position]
            result += [(c, edit.start, edit.end) for c in edit.replacement]
            position = edit.end
        else:
            result += [(c, position, position + 1) for c in text[position : position + 1]]
            position += 1
    return result


@given(edited_texts(), st.data())
def test_text_and_map_are_what_each_character_says(case: tuple[str, list[Edit]], data: st.DataObject) -> None:
    text, edits = case
    expected = by_character(text, edits)
    clean = apply_edits(text, edits)
    assert clean.text == "".join(character for character, _, _ in expected)
    start = data.draw(st.integers(0, len(clean.text)))
    end = data.draw(st.integers(start, len(clean.text)))
    if start < end:
        assert clean.to_source(start, end) == (expected[start][1], expected[end - 1][2])


@given(st.text(max_size=30), st.data())
def test_without_edits_every_range_is_itself(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    assert apply_edits(text, []).to_source(start, end) == (start, end)


@pytest.mark.parametrize("pair", [((2, 5), (4, 6)), ((2, 5), (2, 3)), ((2, 5), (3, 3)), ((2, 2), (2, 2))])
def test_edits_that_meet_are_an_error(pair: tuple[tuple[int, int], tuple[int, int]]) -> None:
    with pytest.raises(OverlapError, match="two edits meet"):
        apply_edits("0123456789", [Edit(*range_, "x", "rule") for range_ in pair])


def test_ranges_outside_are_an_error() -> None:
    with pytest.raises(ValueError, match="does not lie"):
        apply_edits("abc", [Edit(2, 4, "", "rule")])
    with pytest.raises(ValueError, match="does not lie"):
        apply_edits("abc", []).to_source(0, 4)


def test_a_text_cut_to_nothing_leads_back_to_its_start() -> None:
    clean = apply_edits("abc", [Edit(0, 3, "", "rule")])
    assert (clean.text, clean.to_source(0, 0)) == ("", (0, 0))
