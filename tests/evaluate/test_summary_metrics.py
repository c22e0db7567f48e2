"""Summaries: fragments against their definition, coverage against copies and foreign texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.evaluate.metric import Item, Response
from lmworks.evaluate.registry import metric
from lmworks.evaluate.summary_metrics import extractive_fragments
from lmworks.generate.text_embedding import TextEncoder
from lmworks.model.checkpoint import Checkpoint
from lmworks.records import Unscored

words = st.lists(st.sampled_from("abc"), max_size=14)


@given(words, words)
def test_fragments_are_the_longest_copies_from_the_left(source, summary):
    text, at, expected = "".join(source), 0, []
    while at < len(summary):
        length = max(n for n in range(len(summary) - at + 1) if "".join(summary[at : at + n]) in text)
        expected += [length] if length else []
        at += length or 1
    assert extractive_fragments(source, summary) == expected


def test_a_copy_a_paraphrase_and_a_foreign_text(tiny_embedder: Checkpoint):
    source = "Trains are booked by the office. Flights need the approval of the head of department. Passwords expire."
    first, foreign = "Trains are booked by the office.", "Quarks zigzag."
    items = [Item(str(n), contexts=(source,)) for n in range(4)]
    responses = [Response(source), Response(first), Response(foreign), Response("")]
    named = ("fragment-coverage", "fragment-density", "compression")
    table = {name: metric(name).measure(items, responses) for name in named}
    assert table["fragment-coverage"][:3] == [1.0, 1.0, pytest.approx(1 / 3)]  # the full stop is copied
    assert table["fragment-density"][:2] == [20.0, 7.0] and table["compression"][:2] == [1.0, pytest.approx(20 / 7)]
    held = metric("content-coverage", encoder=TextEncoder(tiny_embedder)).measure(items, responses)
    assert held[0] == pytest.approx(1, abs=1e-3) and held[0] > held[1] > held[2]  # type: ignore[operator]
    assert all(isinstance(values[3], Unscored) for values in (*table.values(), held))


def test_an_answer_is_relevant_that_says_what_was_asked(tiny_embedder: Checkpoint):
    items = [Item(str(n), "How many days of leave does an employee have?") for n in range(3)]
    said = [Response("An employee has twenty-eight days of leave."), Response("Hotels are paid."), Response("")]
    near, far, none = metric("answer-relevance", encoder=TextEncoder(tiny_embedder)).measure(items, said)
    assert 0 < far < near <= 1 and isinstance(none, Unscored)  # type: ignore[operator]
