"""Span metrics against SQuAD's definition on characters, and against counting by hand."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.evaluate.span_overlap import covered_share, gold_characters, is_found, is_right, span_f1
from lmworks.records import Span


def span(start: int, end: int, document: str = "d") -> Span:
    return Span(document, start, end)


spans = st.tuples(st.integers(0, 60), st.integers(1, 30), st.sampled_from("de")).map(
    lambda t: span(t[0], t[0] + t[1], t[2])
)


@given(st.lists(spans, max_size=5), st.lists(spans, min_size=1, max_size=4))
def test_f1_is_squads_f1_over_character_positions(predicted, gold):
    def squad(answer: list, truth: list) -> float:
        shared = sum((Counter(answer) & Counter(truth)).values())
        if shared == 0:
            return 0.0
        precision, recall = shared / len(answer), shared / len(truth)
        return 2 * precision * recall / (precision + recall)

    positions = sorted({(s.document, i) for s in predicted for i in range(s.start, s.end)})
    expected = max(squad(positions, [(g.document, i) for i in range(g.start, g.end)]) for g in gold)
    assert span_f1(predicted, gold) == pytest.approx(expected, abs=1e-12)


@for_each(
    ("citation", "right"),
    [
        (span(0, 10), True),  # the gold span itself
        (span(2, 5), True),  # wholly inside
        (span(0, 100), True),  # covers it
        (span(5, 40), True),  # covers exactly half of the gold span
        (span(6, 40), False),  # covers less than half, and lies mostly outside
        (span(0, 10, "e"), False),  # another document
        (span(10, 20), False),  # touches
    ],
)
def test_a_citation_is_right_when_half_of_either_is_shared(citation, right):
    assert is_right(citation, [span(0, 10)]) is right


def test_found_needs_half_of_one_gold_span_by_all_citations_together():
    assert is_found([span(0, 3), span(7, 9)], [span(0, 10), span(50, 60)])
    assert not is_found([span(0, 2), span(50, 52)], [span(0, 10), span(50, 60)])


def test_gold_characters_are_counted_once():
    assert gold_characters([span(0, 10), span(5, 15)], [span(8, 12), span(9, 20), span(0, 5, "e")]) == (7, 15)
    assert gold_characters([], [span(0, 5)]) == (0, 0)


@given(st.lists(spans, max_size=5), st.lists(spans, min_size=1, max_size=4))
def test_intervals_count_what_sets_of_characters_do(cited, gold):
    def characters(*some: Span) -> set:
        return {(one.document, place) for one in some for place in range(one.start, one.end)}

    held = characters(*cited)
    assert gold_characters(cited, gold) == (len(held & characters(*gold)), len(held))
    assert is_found(cited, gold) == any(len(held & characters(one)) * 2 >= one.end - one.start for one in gold)
    shares = [len(held & characters(one)) / len(characters(one)) for one in gold]
    assert covered_share(cited, gold) == pytest.approx(sum(shares) / len(shares))


def test_a_span_costs_the_same_however_long_it_is():
    book = span(0, 10**13)
    assert span_f1([book], [book]) == 1.0 and gold_characters([book], [span(0, 5)]) == (5, 10**13)
