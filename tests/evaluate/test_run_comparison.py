"""Two runs are compared on the same items and only there, and a gate in pytest says what it found."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kit.tables import for_each
from lmworks.evaluate import Item, Metric, Response, assert_not_worse, compare_runs, compare_values, registry
from lmworks.evaluate.comparison import combine_of
from lmworks.evaluate.metric import each, ratio
from lmworks.evaluate.registry import METRICS
from lmworks.evaluate.results import Result, task_score, write_results
from lmworks.records import Scored, Unscored


def metric(name, direction=True, combine=ratio):
    return Metric(name, each(lambda *_: 0.0), higher_is_better=direction, combine=combine)


def total(sums):
    return sums[..., 0]


def write_run(folder: Path, values: dict[str, list], metrics=None, items=None) -> Path:
    """A run of one task, whose metric of each name has these values."""
    metrics = metrics or [metric(name) for name in values]
    items = items or [Item(f"q{n}", "?", ("yes",)) for n in range(len(metrics and next(iter(values.values()))))]
    rows = [Result("t", item, Response("a"), {k: v[n] for k, v in values.items()}) for n, item in enumerate(items)]
    scores = {"t": {one.name: task_score(one, items, values[one.name], "s") for one in metrics}}
    folder.mkdir()
    write_results(folder, rows, scores)
    return folder


def noisy(shift: float, n: int = 60) -> list[float]:
    return list(
        np.random.default_rng(1).normal(0, 5, n) + np.random.default_rng(int(abs(shift) * 10)).normal(shift, 0.3, n)
    )


@for_each("name", [name for name, entry in METRICS.items() if not entry.roles])
def test_a_comparison_finds_the_function_of_sums_that_a_run_names(name):
    made = registry.metric(name.replace("@k", "@2"))
    assert combine_of(task_score(made, [], [], "s").combine) is made.combine


def test_a_difference_that_an_unpaired_test_would_miss_is_found_and_kept_under_holm(tmp_path):
    right = [1.0] * 30 + [0.0] * 30
    metrics = [metric("gain"), metric("loss", False), metric("length", None), metric("right")]
    new = write_run(tmp_path / "new", dict.fromkeys(("gain", "loss", "length"), noisy(0.5)) | {"right": right}, metrics)
    old = write_run(tmp_path / "old", dict.fromkeys(("gain", "loss", "length"), noisy(0)) | {"right": right}, metrics)
    found = {one.metric: one for one in compare_runs(new, old)}
    assert [one.verdict for one in found.values()] == ["better", "worse", "differs", "identical"]
    difference = found["gain"].difference
    assert isinstance(difference, Scored)
    assert difference.value == pytest.approx(np.mean(noisy(0.5)) - np.mean(noisy(0)))
    assert 0.3 < difference.interval[0] < difference.interval[1] < 0.7
    assert found["gain"].p_adjusted == pytest.approx(4 * (found["gain"].p or 0))
    assert found["right"].p == 1


def test_items_without_a_value_in_one_run_are_counted_and_clusters_weigh_once():
    items = [Item(str(n)) for n in range(40)]
    new = [1.0] * 30 + [Unscored("no")] * 10
    found = compare_values(ratio, items, new, [0.0] * 40)
    assert found.left_out == 10 and found.verdict == "better" and "10 items without" in str(found)
    one_document = [replace(item, cluster=str(n // 20)) for n, item in enumerate(items)]
    assert compare_values(ratio, one_document, [1.0] * 40, [0.0] * 40).verdict == "cannot tell"
    none = compare_values(ratio, items, [Unscored("no")] * 40, [0.0] * 40)
    assert none.p is None and isinstance(none.difference, Unscored)


def test_a_ratio_that_one_run_has_not_is_unscored():
    items = [Item(str(number)) for number in range(4)]
    found = compare_values(ratio, items, [(1.0, 1.0)] * 4, [(0.0, 0.0)] * 4)
    assert isinstance(found.difference, Unscored) and found.p is None


def test_runs_that_cannot_be_paired_are_refused(tmp_path):
    items = [Item("a", "?", ("yes",)), Item("b", "?", ("no",))]
    base = write_run(tmp_path / "base", {"m": [1.0, 0.0]}, items=items)
    others = {
        r"only .*more has t c": write_run(tmp_path / "more", {"m": [1.0] * 3}, items=[*items, Item("c")]),
        r"t b differently \(references\)": write_run(
            tmp_path / "changed", {"m": [1.0] * 2}, items=[items[0], replace(items[1], references=("yes",))]
        ),
        r"different metrics: .* t n ": write_run(tmp_path / "metric", {"n": [1.0] * 2}, items=items),
        r"different metrics: .* t m ": write_run(tmp_path / "way", {"m": [1.0] * 2}, [metric("m", False)], items),
        r"item a of t twice": write_run(tmp_path / "twice", {"m": [1.0] * 2}, items=[items[0]] * 2),
    }
    for message, folder in others.items():
        with pytest.raises(ValueError, match=message):
            compare_runs(folder, base)
    foreign = write_run(tmp_path / "foreign", {"m": [1.0, 0.0]}, [metric("m", combine=total)], items)
    with pytest.raises(ValueError, match="no function of lmworks"):
        compare_runs(foreign, foreign)


def test_the_gate_passes_fails_and_says_how_many_items_would_tell(tmp_path):
    metrics = [metric("gain"), metric("loss", False), metric("length", None)]
    runs = {
        name: write_run(tmp_path / name, {"gain": values, "loss": [-v for v in values], "length": values}, metrics)
        for name, values in (("old", noisy(0)), ("same", noisy(0.1)), ("worse", noisy(-1)))
    }
    assert_not_worse(runs["same"], runs["old"], 0.2)
    assert_not_worse(runs["worse"], runs["old"], {"loss": 2.0})
    with pytest.raises(AssertionError) as caught:
        assert_not_worse(runs["worse"], runs["old"], 0.2)
    lines = str(caught.value).splitlines()[1:]
    assert [line.endswith("WORSE") for line in lines] == [True, True]  # both directions, and none for the length
    with pytest.raises(AssertionError, match=r"CANNOT TELL: \d+ items would"):
        assert_not_worse(runs["same"], runs["old"], 0.001)
    with pytest.raises(ValueError, match="no metric with a direction"):
        assert_not_worse(runs["same"], runs["old"], {"gian": 0.1})
