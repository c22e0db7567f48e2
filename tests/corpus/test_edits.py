"""Edits against a character-by-character definition of what they mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.corpus.edits import apply_edits, compose
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
    changed = {place for edit in edits for place in range(edit.start, edit.end)}
    stays = {begin: at for at, (_, begin, behind) in enumerate(expected) if begin < behind and begin not in changed}
    for place in range(-1, len(text) + 1):
        assert clean.from_source(place) == stays.get(place)


@for_each("pair", [((2, 5), (4, 6)), ((2, 5), (2, 3)), ((2, 5), (3, 3)), ((2, 2), (2, 2))])
def test_edits_that_meet_or_lie_outside_are_errors(pair: tuple[tuple[int, int], tuple[int, int]]) -> None:
    edits = [Edit(*range_, "x", "rule") for range_ in pair]
    with pytest.raises(ValueError, match="rule"):
        apply_edits("0123456789", edits)
    for outside in (lambda: apply_edits("0", edits), lambda: apply_edits("abc", []).to_source(0, 4)):
        with pytest.raises(ValueError, match=r"\d"):
            outside()


@st.composite
def edits_of(draw: st.DrawFn, text: str) -> list[Edit]:
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    edits = {
        (start, end): Edit(start, end, draw(st.text("xyz", max_size=3)), draw(st.sampled_from("pqr")))
        for start, end in zip(cuts[::2], cuts[1::2], strict=False)
    }
    return list(edits.values())


@given(st.text("abcdef", max_size=30), st.data())
def test_composed_edits_do_what_both_do_one_after_the_other(text: str, data: st.DataObject) -> None:
    first = data.draw(edits_of(text))
    between = apply_edits(text, first)
    second = data.draw(edits_of(between.text))
    expected = apply_edits(between.text, second)
    composed = compose(text, first, second)
    assert composed == sorted(composed)
    done = apply_edits(text, composed)
    assert done.text == expected.text
    assert {part for edit in composed for part in edit.rule.split("+")} <= {edit.rule for edit in (*first, *second)}
