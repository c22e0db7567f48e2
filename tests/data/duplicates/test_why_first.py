"""Why one of two duplicates stays before the other: what is told is what decided, whatever the two are like."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.data.annotation_table import AnnotationTable
from lmworks.data.duplicates.standing import DECIDES, standing_of, why_first


def table(*rows: tuple[str | None, float | None, int, str]) -> AnnotationTable:
    """Rows of a licence, a quality, a length and a uri."""
    sizes = np.array([row[2] for row in rows], np.int64)
    quality = np.array([np.nan if row[1] is None else row[1] for row in rows])
    uris = [row[3] for row in rows]
    labels = {"licence": [row[0] for row in rows]}
    return AnnotationTable(
        uris, [""] * len(rows), ["text"] * len(rows), sizes, sizes, {"quality": quality}, labels, sources=uris
    )


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (("MIT", 0.1, 5, "z"), (None, 0.9, 9, "a"), "by licence"),
        (("MIT", 0.5, 5, "z"), ("GPL-3.0-only", 0.4, 9, "a"), "by quality"),
        ((None, 0.5, 5, "z"), (None, None, 9, "a"), "by quality"),  # what was not measured is the worst
        ((None, None, 9, "z"), (None, None, 5, "a"), "longer"),
        (("MIT", 0.5, 5, "a"), ("MIT", 0.5, 5, "b"), "equal in licence, quality and length: first by name"),
        ((None, None, 5, "a"), (None, None, 9, "z"), ""),
    ],
)
def test_what_decides(first, second, told):
    found = table(first, second)
    assert why_first((found, 0), (found, 1)) == told


def test_of_tables_without_the_columns():
    sizes = np.array([5, 5], np.int64)
    bare = AnnotationTable(["b", "a"], [""] * 2, ["text"] * 2, sizes, sizes)
    assert why_first((bare, 1), (bare, 0)) == DECIDES[-1]


ROW = st.tuples(st.sampled_from(["MIT", None]), st.sampled_from([None, 0.2, 0.8]), st.integers(1, 2))


@given(st.lists(ROW, min_size=2, max_size=6))
def test_it_agrees_with_the_order_that_decides(rows):
    """Whoever comes first by their ranks has a reason for it, and no other has."""
    found = table(*((*row, f"{number}") for number, row in enumerate(rows)))
    rank = standing_of([found]).rank
    for one in range(len(rows)):
        for two in range(len(rows)):
            assert bool(why_first((found, one), (found, two))) == (rank[one] < rank[two])
