"""Experiments over a log: who sees which arm, what the units' acts come to, and the decision in words."""

import random
from dataclasses import replace

import pytest
from events import event

from kit.tables import for_each
from lmworks.config import ConfigError, from_mapping, to_mapping
from lmworks.monitor.experiment import add_event, assign, change_state, checked, read_experiment, read_state, start
from lmworks.monitor.experiment_results import plan, read_out
from lmworks.monitor.log import Log
from lmworks.records import Experiment, Feedback, Outcome

ARMS = {"control": {"share": 0.5}, "candidate": {"share": 0.5, "model": "other"}}
TONE = Experiment("tone", ARMS, "click", minimum_effect=0.1, planned_units=2000, window_days=1.0)
LATER = 1000.0 + 5 * 86400


def fill(log: Log, experiment: Experiment, rates: dict[str, float], units: int, seed: int = 0, **columns) -> None:
    """Units with an answer each, of whom a share, by arm, clicks."""
    draw, waiting = random.Random(seed), []
    for number in range(units):
        unit = f"u{seed}-{number}"
        found = assign(experiment, unit, 1.0, 1000.0 + number)
        assert found is not None
        more = {name: value[found.arm] for name, value in columns.items()}
        made = event(seed * 10**6 + number, time=1000.0 + number, experiment=experiment.name, unit=unit, arm=found.arm)
        waiting.append(log.record(replace(made, **more)))
        waiting.append(log.append("assignments", [to_mapping(found)]))
        if draw.random() < rates[found.arm]:
            waiting.append(log.append("outcomes", [to_mapping(Outcome(unit, "click", 1001.0 + number))]))
        if len(waiting) > 500:
            waiting.pop().result(30)
    for one in waiting:
        one.result(30)


@pytest.fixture
def log(tmp_path):
    with Log(tmp_path / "log.sqlite", capacity=100_000) as log:
        yield log


def test_an_arm_is_for_good_in_its_share_and_a_ramp_only_adds():
    units = [f"unit {number}" for number in range(20_000)]
    at = {share: {unit: assign(TONE, unit, share, 0.0) for unit in units} for share in (0.1, 0.5, 1.0)}
    arms = [one.arm for one in at[1.0].values() if one]
    assert len(arms) == len(units)
    assert abs(arms.count("control") / len(arms) - 0.5) < 4 * 0.5 / len(arms) ** 0.5
    for small, large in ((0.1, 0.5), (0.5, 1.0)):
        inside = {unit for unit, one in at[small].items() if one}
        assert abs(len(inside) / len(units) - small) < 0.02
        assert all(at[small][unit] == at[large][unit] for unit in inside)
    other = replace(TONE, name="other")  # which is independent of the first
    same = sum(assign(other, unit, 1.0, 0.0).arm == at[1.0][unit].arm for unit in units)  # type: ignore[union-attr]
    assert abs(same / len(units) - 0.5) < 0.02


def test_a_better_arm_is_found_and_equal_ones_are_not(log):
    fill(log, TONE, {"control": 0.3, "candidate": 0.5}, 500)
    found = read_out(log.reader, TONE, LATER)
    (effect,) = found.primary
    assert found.decision.kind == "stop", found.decision
    assert "candidate is better" in found.decision.words
    assert effect.interval and effect.interval[0] <= 0.2 <= effect.interval[1]
    assert found.assigned["control"] + found.assigned["candidate"] == 500
    same = replace(TONE, name="same")
    fill(log, same, {"control": 0.4, "candidate": 0.4}, 500, seed=1)
    assert read_out(log.reader, same, LATER).decision.kind == "extend"
    assert not read_out(log.reader, same, LATER).decision.harmful


def test_a_breached_guardrail_is_harmful_and_a_wide_one_holds_a_verdict_up(log):
    guarded = replace(TONE, guardrails={"seconds>4": 0.05})
    slow = {"control": {"total": 1.0}, "candidate": {"total": 9.0}}
    fill(log, guarded, {"control": 0.3, "candidate": 0.6}, 500, timings=slow)
    found = read_out(log.reader, guarded, LATER)
    assert [one.guard for one in found.effects] == ["", "breached"]
    assert found.decision.harmful and "seconds>4" in found.decision.words
    narrow = replace(guarded, guardrails={"error": 0.0005})
    held = read_out(log.reader, narrow, LATER).decision
    assert held.kind == "extend" and "more units" in held.words


def test_thin_data_is_no_verdict(log):
    assert read_out(log.reader, TONE, LATER).decision.kind == "cannot tell"
    fill(log, TONE, {"control": 0.5, "candidate": 0.5}, 60)
    rated = replace(TONE, metric="rating")
    assert "no unit with an outcome rating" in read_out(log.reader, rated, LATER).decision.words
    young = read_out(log.reader, TONE, 1000.0)  # all windows are open
    assert (young.open, young.decision.kind) == (60, "cannot tell")
    few = read_out(log.reader, TONE, LATER)
    assert few.decision.kind == "extend" and few.primary[0].interval  # betting holds for so few


def test_a_split_that_is_wrong_ends_the_reading(log):
    fill(log, TONE, {"control": 0.2, "candidate": 0.9}, 400)
    lost = "experiment = ? AND arm = ?"
    rows = log.reader.rows("assignments", "unit", lost, ["tone", "control"])
    keep = [row[0] for row in rows[:100]]
    places = ", ".join("?" * len(keep))
    where = f"{lost} AND unit NOT IN ({places})"
    log.update("assignments", {"experiment": "gone"}, where, ["tone", "control", *keep]).result(30)
    found = read_out(log.reader, TONE, LATER)
    assert found.mismatch < 0.001 and not found.effects and found.decision.kind == "cannot tell"


def test_late_and_double_and_unknown_outcomes_change_nothing(log):
    fill(log, TONE, {"control": 0.4, "candidate": 0.4}, 200)
    before = read_out(log.reader, TONE, LATER)
    rows = log.reader.rows("outcomes", "unit, time", "name = ?", ["click"])
    late = [to_mapping(Outcome(f"u0-{number}", "click", 1000.0 + 2 * 86400)) for number in range(200)]
    double = [to_mapping(Outcome(unit, "click", time)) for unit, time in rows]
    log.append("outcomes", late + double).result(30)
    log.append("outcomes", [to_mapping(Outcome("nobody", "click", 1500.0))]).result(30)
    assert read_out(log.reader, TONE, LATER).effects == before.effects


def test_the_same_results_from_both_databases(location):
    user = replace(TONE, unit="user", metric="thumbs", guardrails={"abstained": 0.5, "click/answer": 0.5})
    with Log(location, capacity=10_000) as log:
        fill(log, user, {"control": 0.4, "candidate": 0.4}, 40)
        for number in range(40):
            value = "up" if number % 3 else "down"
            log.attach(Feedback(f"{number:016x}", 2000.0 + number, "thumbs", value)).result(30)
        found = read_out(log.reader, user, LATER)
        clicks = log.reader.rows("outcomes", "count(*)")[0][0]
    ups = sum(one.values[0] * one.units[0] + one.values[1] * one.units[1] for one in found.primary)
    assert ups == pytest.approx(sum(bool(number % 3) for number in range(40)))
    per_answer = found.effects[2]
    assert sum(v * n for v, n in zip(per_answer.values, per_answer.units, strict=True)) == pytest.approx(clicks)


def test_a_course_is_started_ramped_and_stopped(log):
    spec = replace(TONE, ramp=(0.1, 1.0))
    start(log, spec, 1.0, "why")
    with pytest.raises(ValueError, match="tone runs on assistant"):
        start(log, replace(spec, name="other"), 2.0, "why")
    states = [read_state(log.reader, "tone"), change_state(log, "tone", "ramped", 3.0, "why")]
    with pytest.raises(ValueError, match="100% of units"):
        change_state(log, "tone", "ramped", 3.0, "why")
    add_event(log, "tone", "killed", 4.0, "why")
    states.append(read_state(log.reader, "tone"))
    shares = [(one.status, one.share, one.next_share) for one in states]
    assert shares == [("running", 0.1, 1.0), ("running", 1.0, None), ("stopped", 0.0, 0.1)]
    with pytest.raises(ValueError, match="new name"):
        start(log, spec, 5.0, "why")
    with pytest.raises(LookupError, match="tone"):
        read_state(log.reader, "tune")


@for_each(
    ("changes", "problem"),
    [
        ({"arms": {"one": {"share": 1.0}}}, "two arms"),
        ({"arms": {"a": {"share": 0.5}, "b": {"share": 0.4}}}, "add up"),
        ({"arms": {"a": {"share": 0.5}, "b": {"share": 0.5, "modell": "x"}}}, "model"),
        ({"metric": "seconds"}, None),
        ({"metric": "two words"}, "no metric"),
        ({"guardrails": {"error": -0.1}}, "margin"),
        ({"ramp": [0.5, 0.1]}, "grow"),
    ],
)
def test_a_wrong_spec_is_refused(changes, problem):
    mapping = {**to_mapping(TONE), **changes}
    if problem is None:
        assert checked(from_mapping(Experiment, mapping))
        return
    with pytest.raises(ConfigError, match=problem):
        checked(from_mapping(Experiment, mapping))


def test_the_example_of_the_verb_can_be_read(tmp_path):
    from lmworks.cli.experiment_command import new

    new(tmp_path / "tone.toml")
    assert list(read_experiment(tmp_path / "tone.toml").arms) == ["control", "candidate"]
    words = plan(replace(TONE, metric="thumbs", minimum_effect=0.05), 0.7, 100)
    assert "1248 if you looked once" in words
