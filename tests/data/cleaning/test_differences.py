"""Where two texts differ: what is told turns the one into the other, and no more than that."""

from hypothesis import given
from hypothesis import strategies as st

from lmworks.data.cleaning.differences import differences, side_by_side

WORDS = st.lists(st.sampled_from(["one", "two", " ", "\n", "é", ".", "longer"]), max_size=25).map("".join)


@given(WORDS, WORDS)
def test_they_turn_the_first_text_into_the_second(first, second):
    found = list(differences(first, second))
    made, position = "", 0
    for each in found:
        made += first[position : each.start] + second[each.other_start : each.other_end]
        position = each.end
    assert made + first[position:] == second
    assert bool(found) == (first != second)


@given(WORDS)
def test_equal_texts_have_none(text):
    assert list(differences(text, text)) == []


def test_one_word_of_many_is_the_only_difference():
    first = "\n".join(f"line {number} has some words" for number in range(500))
    second = first.replace("line 250 has", "line 250 had")
    (found,) = differences(first, second)
    assert (first[found.start : found.end], second[found.other_start : found.other_end]) == ("has", "had")


def test_a_text_without_lines_is_compared_as_well():
    first = " ".join(f"w{number}" for number in range(5000))  # more words than are compared one by one
    second = first.replace("w2500 ", "other ")
    (found,) = differences(first, second)
    assert second[found.other_start : found.other_end].strip() == "other"


def test_excerpts_stand_beside_each_other():
    filler = " ".join(["filler"] * 200)
    first, second = f"one two {filler} three.", f"one 2 {filler} four."
    (left, right), (left_end, right_end) = side_by_side(first, second)
    assert [(p.text, p.change) for p in left if p.change] == [("two", "removed")]
    assert [(p.text, p.change) for p in right if p.change] == [("2", "added")]
    assert [p.text for p in left_end if p.change] == ["three"] and [p.text for p in right_end if p.change] == ["four"]
    assert max(len("".join(p.text for p in side)) for side in (left, right, left_end, right_end)) < 300
    assert len(side_by_side(first, second, excerpts=1)) == 1 and side_by_side(first, first) == []
