"""What steps cut of one text: nothing twice, nothing half."""

from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.edits import apply_edits
from lmworks.corpus.filtering.apply import apply_steps
from lmworks.corpus.filtering.decide import Cut

TEXT = "0123456789" * 4
CUT = st.builds(
    lambda start, length, replacement, rule: Cut(start, min(start + length, len(TEXT)), replacement, rule),
    st.integers(0, len(TEXT)),
    st.integers(0, 12),
    st.sampled_from(["", "<X>"]),
    st.sampled_from("ab"),
)


@given(st.lists(st.lists(CUT, max_size=6), max_size=4))
def test_every_character_that_a_step_names_goes_once(by_step):
    applied = apply_steps(by_step)
    gone = [place for step in applied.by_step for cut in step for place in range(cut.start, cut.end)]
    assert len(gone) == len(set(gone))
    assert set(gone) == {place for step in by_step for cut in step for place in range(cut.start, cut.end)}
    kept = "".join(character for place, character in enumerate(TEXT) if place not in set(gone))
    assert apply_edits(TEXT, applied.edits).text.replace("<X>", "") == kept


@given(st.lists(st.lists(CUT, max_size=6), min_size=1, max_size=4))
def test_earlier_steps_do_not_depend_on_later_ones(by_step):
    assert apply_steps(by_step).by_step[:-1] == apply_steps(by_step[:-1]).by_step


def test_what_is_redacted_and_partly_gone_loses_its_rest():
    """Half a number is no less personal."""
    line, number = Cut(0, 5, "", "line"), Cut(3, 9, "<PHONE>", "pii.phone")
    assert apply_steps([[line], [number]]).by_step == ((line,), (Cut(5, 9, "", "pii.phone"),))
    assert apply_steps([[number], [line]]).by_step == ((number,), (Cut(0, 3, "", "line"),))
