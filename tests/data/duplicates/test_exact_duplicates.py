"""Equal texts: the first of each in its order, whatever form of equality is asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.data.duplicates.exact import canonical, digests, first_equal

FORMS = st.sampled_from(["text", "spaces", "words"])


@given(st.lists(st.text("aA b.\n", max_size=4), max_size=20), FORMS)
def test_each_text_has_the_first_that_is_equal(texts, form):
    keys = [canonical(text, form) for text in texts]
    assert first_equal(digests(texts, form)).tolist() == [keys.index(key) for key in keys]


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), max_size=12))
def test_rows_are_equal_in_all_columns(rows):
    """A sort by one column alone would take others for equal."""
    found = first_equal(np.array(rows, np.uint64).reshape(-1, 2))
    assert found.tolist() == [rows.index(row) for row in rows]


@pytest.mark.parametrize(
    "first, second, text, spaces, words",
    [
        ("a b", "a b", True, True, True),
        ("a b", " a\n\t b ", False, True, True),
        ("x = -1", "X: 1", False, False, True),
        ("ab", "a b", False, False, False),
        ("a\ud800", "a\ud801", False, False, True),
    ],
)
def test_what_each_form_takes_for_equal(first, second, text, spaces, words):
    for form, equal in (("text", text), ("spaces", spaces), ("words", words)):
        assert (canonical(first, form) == canonical(second, form)) == equal


def test_parts_of_a_corpus_are_put_together():
    texts = ["a", "b", "a", "c", "b"]
    joined = np.concatenate([digests(texts[:2]), digests(texts[2:])])
    assert first_equal(joined).tolist() == [0, 1, 0, 3, 1]
