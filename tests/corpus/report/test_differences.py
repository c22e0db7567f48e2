"""Where two texts differ: what is shown turns the one into the other, and no more than that."""

from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.report.differences import _differences, side_by_side

WORDS = st.lists(st.sampled_from(["one", "two", " ", "\n", "é", ".", "longer"]), max_size=25).map("".join)


@given(WORDS, WORDS)
def test_they_turn_the_first_text_into_the_second(first, second):
    made, position = "", 0
    for start, end, other_start, other_end in _differences(first, second):
        made += first[position:start] + second[other_start:other_end]
        position = end
    assert made + first[position:] == second


def test_a_difference_far_in_a_long_text_is_the_first_one():
    first = " ".join(f"w{number}" for number in range(9000))
    (start, end, other_start, other_end), *_ = _differences(first, first.replace("w7000 ", "other "))
    assert (first[start:end], other_end - other_start) == ("w7000", len("other"))


def test_excerpts_stand_beside_each_other():
    filler = " ".join(["filler"] * 200)
    first, second = f"one two {filler} three.", f"one 2 {filler} four."
    (left, right), (left_end, right_end) = side_by_side(first, second)
    assert [(p.text, p.change) for p in left if p.change] == [("two", "removed")]
    assert [(p.text, p.change) for p in right if p.change] == [("2", "added")]
    assert [p.text for p in left_end if p.change] == ["three"] and [p.text for p in right_end if p.change] == ["four"]
    assert max(len("".join(p.text for p in side)) for side in (left, right, left_end, right_end)) < 300
    assert len(side_by_side(first, second, excerpts=1)) == 1 and side_by_side(first, first) == []
