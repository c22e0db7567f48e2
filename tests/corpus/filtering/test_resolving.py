"""Who of several duplicates stays: by a stated order, and never for the sake of a twin that is gone."""

import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.config import from_mapping
from lmworks.corpus.attributes import AttributeTable
from lmworks.corpus.dedup.match_tables import Crowds, Pairs, Places, write_crowds, write_matches
from lmworks.corpus.filtering.decide import Cut, judge
from lmworks.corpus.filtering.decide_duplicates import resolve, standing_of
from lmworks.corpus.filtering.filter_policy import Policy


def table(count: int, shard: str = "s", **given) -> AttributeTable:
    labels = {name: given.pop(name) for name in ("exact", "licence") if name in given}
    return AttributeTable(
        uris=[f"{shard}/{number}" for number in range(count)],
        hashes=[str(number) for number in range(count)],
        kinds=["web"] * count,
        sources=[str(shard)] * count,
        characters=np.array(given.pop("characters", [100] * count)),
        bytes=np.full(count, 100),
        scores={name: np.array(values, float) for name, values in given.items()},
        labels=labels,
        edits=[()] * count,
        spans=[()] * count,
    )


def policy(*steps) -> Policy:
    return from_mapping(Policy, {"steps": list(steps)})


def decided(steps, tables, folder=None):
    judged = [judge(steps, each) for each in tables]
    resolve(steps, standing_of(tables), judged, folder)
    return judged


def pairs_of(folder: Path, rows) -> Path:
    folder.mkdir(exist_ok=True)
    first, second, similarity = (np.array(column) for column in zip(*rows, strict=True))
    pairs = Pairs(first.astype(np.int64), second.astype(np.int64), similarity.astype(float))
    write_matches(folder, "near", pairs)
    write_crowds(folder, Crowds(threshold=0.7))
    return folder


NEAR = {"name": "alike", "duplicates": "near", "similarity": 0.8}


def test_the_longest_stays_over_all_shards_and_the_twin_is_told(tmp_path):
    tables = [table(2, "a", characters=[5, 9]), table(1, "b", characters=[7])]
    folder = pairs_of(tmp_path / "d", [(0, 2, 0.9), (0, 1, 0.85), (1, 2, 0.7)])
    judged = decided(policy(NEAR), tables, folder)
    (reason,) = judged[0][0].reasons[0]
    assert (reason.rule, reason.value, reason.threshold, reason.twin) == ("near", 0.85, 0.8, "a/1")
    assert judged[0][0].reasons.keys() == {0} and judged[1][0].reasons == {}


def test_a_known_licence_comes_before_quality_and_that_before_length(tmp_path):
    folder = pairs_of(tmp_path / "d", [(0, 1, 1.0)])
    free = table(2, characters=[9, 5], licence=[None, "MIT"], quality=[0.9, 0.1])
    assert decided(policy(NEAR), [free], folder)[0][0].reasons.keys() == {0}
    good = table(2, characters=[9, 5], quality=[0.1, 0.9])
    assert decided(policy(NEAR), [good], folder)[0][0].reasons.keys() == {0}


def test_a_twin_that_went_already_takes_nobody_along(tmp_path):
    """The longest is too long for the first step, so that the other two are left, which are no twins."""
    folder = pairs_of(tmp_path / "d", [(0, 1, 0.9), (0, 2, 0.9)])
    first = {"name": "long", "limits": {"words": {"at_most": 10}}}
    tables = [table(3, characters=[99, 5, 5], words=[11, 1, 1])]
    assert decided(policy(first, NEAR), tables, folder)[0][1].reasons == {}
    assert decided(policy(NEAR, first), tables, folder)[0][0].reasons.keys() == {1, 2}


def test_equal_texts_leave_one():
    judged = decided(policy({"name": "equal", "duplicates": "exact"}), [table(3, exact=["k", "l", "k"])])
    assert {place: reasons[0].twin for place, reasons in judged[0][0].reasons.items()} == {2: "s/0"}


def test_of_equal_places_the_first_of_who_stays_before_others_is_kept(tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    columns = zip(*[(0, 0, 5, 9), (0, 1, 1, 5), (0, 1, 7, 11), (1, 0, 0, 3)], strict=True)
    write_matches(folder, "paragraphs", Places(*(np.array(column, np.int64) for column in columns)))
    judged = decided(policy({"name": "p", "duplicates": "paragraphs"}), [table(2, characters=[5, 9])], folder)
    assert judged[0][0].cuts == {0: [Cut(5, 9, "", "paragraphs")], 1: [Cut(7, 11, "", "paragraphs")]}


def test_without_duplicates_such_a_step_is_refused():
    with pytest.raises(ValueError, match=r"the step alike needs a stage data\.duplicates"):
        decided(policy(NEAR), [table(2)])


@given(st.integers(2, 12), st.data())
def test_whoever_goes_has_a_twin_that_stays_whatever_the_order(count, data):
    edges = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda pair: pair[0] < pair[1])
    pairs = data.draw(st.lists(edges, min_size=1, unique=True))
    characters = data.draw(st.lists(st.integers(1, 5), min_size=count, max_size=count))
    order = list(range(count))
    random.Random(data.draw(st.integers(0, 99))).shuffle(order)
    gone = []
    for places in (list(range(count)), order):
        with tempfile.TemporaryDirectory() as name:
            rows = [(*sorted((places[first], places[second])), 0.9) for first, second in pairs]
            folder = pairs_of(Path(name), rows)
            back = {place: number for number, place in enumerate(places)}
            given = table(count, characters=[characters[back[place]] for place in range(count)])
            given = AttributeTable(**{**_fields(given), "uris": [f"s/{back[place]}" for place in range(count)]})
            reasons = decided(policy(NEAR), [given], folder)[0][0].reasons
            gone.append({given.uris[place]: found[0].twin for place, found in reasons.items()})
    assert gone[0] == gone[1]
    assert not set(gone[0].values()) & set(gone[0])
    for first, second in pairs:  # of two that are alike, one goes
        assert {f"s/{first}", f"s/{second}"} & set(gone[0])


def _fields(given: AttributeTable) -> dict[str, object]:
    return {name: getattr(given, name) for name in AttributeTable.__slots__}
