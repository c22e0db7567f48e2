"""Edit distance, exact match and F1 against their definition on known answers."""

import pytest
from rapidfuzz.distance import Levenshtein

from kit.tables import for_each
from lmworks.evaluate.metric import Item, Response, check_items, score
from lmworks.evaluate.registry import metric
from lmworks.evaluate.string_metrics import exact_match, levenshtein_similarity, token_f1
from lmworks.records import Scored, Unscored
from text_pairs import text_pairs


def test_the_edit_distance_in_closed_form():
    assert (
        levenshtein_similarity("kitten", "sitting") == pytest.approx(1 - 3 / 7) and levenshtein_similarity("", "") == 1
    )


def test_the_best_reference_counts():
    pairs = text_pairs()
    values = metric("levenshtein").measure(*map(list, zip(*pairs, strict=True)))
    for (item, response), value in zip(pairs, values, strict=True):
        best = max(Levenshtein.normalized_similarity(response.text, one) for one in item.references)
        assert value == pytest.approx(best, abs=1e-12)


@for_each(
    ("response", "reference", "exact", "f1"),
    [
        ("The  Eiffel-Tower!", "eiffeltower", 1, 1),
        ("an answer", "the answer", 1, 1),
        ("14 December 1972 UTC", "December 1972", 0, 2 / 3),
        ("to be to be", "to be or not", 0, 1 / 2),
        ("the", "a", 1, 1),  # nothing is left of both
        ("", "yes", 0, 0),
    ],
)
def test_answers_are_compared_as_squad_does(response, reference, exact, f1):
    assert exact_match(response, reference) == exact
    assert token_f1(response, reference) == pytest.approx(f1)


def test_a_score_of_matches_has_wilsons_interval_and_an_empty_reference_is_refused():
    items = [Item(str(i), references=("yes",)) for i in range(10)]
    found = score(metric("exact-match"), items, metric("exact-match").measure(items, [Response("Yes.")] * 10))
    assert isinstance(found, Scored)
    assert found.value == 1
    assert found.interval == pytest.approx((0.722, 1), abs=1e-3)
    with pytest.raises(ValueError, match=r"row 2 \(b\) has an empty text in references"):
        check_items(metric("token-f1"), [items[0], Item("b", references=(" ",))])


@for_each("name", ["exact-match", "meteor", "verbatim", "bleu", "ter"])
def test_an_item_without_references_has_no_value(name):
    bare, right = metric(name).measure([Item("1"), Item("2", references=("Paris",))], [Response("Paris")] * 2)
    assert bare == Unscored("no reference") and not isinstance(right, Unscored)


def test_one_text_for_several_and_values_that_lack_are_refused():
    with pytest.raises(ValueError, match=r"item 1: references .* references=\('Paris',\)"):
        Item("1", "Capital of France?", references="Paris")
    with pytest.raises(ValueError, match="2 items and 1 values"):
        score(metric("exact-match"), [Item("1"), Item("2")], [1.0])
