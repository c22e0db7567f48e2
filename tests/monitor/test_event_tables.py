"""Rows beside the interactions, in both databases: written once, changed by the first who asks, read by conditions."""

import pytest

from lmworks.monitor.log import Log

CLICK = {"time": 2.0, "unit": "u1", "name": "click", "value": 1.0}


def test_a_row_twice_is_there_once(location):
    with Log(location) as log:
        assert log.append("outcomes", [CLICK, CLICK, {**CLICK, "time": 9.0}]).result(20) == 2
        assert log.append("outcomes", [CLICK]).result(20) == 0
        arm = {"experiment": "tone", "unit": "u1", "arm": "A", "time": 1.0, "probability": 0.5}
        assert [log.append("assignments", [{**arm, "arm": name}]).result(20) for name in "AB"] == [1, 0]
        assert log.reader.rows("assignments", "arm") == [("A",)]
        where = "name = ? GROUP BY unit"
        assert log.reader.rows("outcomes", "unit, count(*), max(time)", where, ["click"]) == [("u1", 2, 9.0)]


def test_a_lock_goes_to_the_first_and_is_free_after_its_time(location):
    with Log(location) as log:
        log.append("reviews", [{"id": "r1", "time": 1.0, "verdict1": {"note": "ü \0"}}]).result(20)

        def lock(name: str, now: float) -> int:
            changes = {"assigned": name, "locked_until": now + 10}
            return log.update("reviews", changes, "id = ? AND locked_until < ?", ["r1", now]).result(20)

        assert [lock("ann", 5.0), lock("bob", 6.0), lock("bob", 16.0)] == [1, 0, 1]
        assert log.reader.rows("reviews", "assigned, verdict1") == [("bob", '{"note": "\\u00fc \\u0000"}')]


def test_one_row_that_cannot_be_stored_harms_no_other(location):
    with Log(location) as log:
        good, bad = log.append("outcomes", [CLICK]), log.append("outcomes", [{**CLICK, "value": None}])
        assert good.result(20) == 1
        assert "value" in str(bad.exception(20))
        for table, row in (("outcome", CLICK), ("outcomes", {"unti": "u"})):
            with pytest.raises(ValueError, match="unknown"):
                log.append(table, [row])


def test_outcomes_leave_with_the_interactions_of_their_time(location):
    with Log(location) as log:
        log.append("outcomes", [CLICK, {**CLICK, "time": 9.0}]).result(20)
        log.prune(5.0)
        assert log.reader.rows("outcomes", "time") == [(9.0,)]


def test_assignments_leave_too_unless_their_experiment_runs(location):
    with Log(location) as log:
        for number, (name, kinds) in enumerate({"runs": ("started", "ramped"), "over": ("started", "stopped")}.items()):
            whom = {"experiment": name, "unit": "u", "arm": "A", "probability": 0.5}
            log.append("assignments", [{**whom, "time": 1.0}, {**whom, "unit": "v", "time": 9.0}])
            for kind in kinds:
                log.append("experiment_events", [{"experiment": name, "kind": kind, "time": 2.0 + number}])
        log.prune(5.0)
        kept = log.reader.rows("assignments", "experiment, time", "1 = 1 ORDER BY experiment, time")
    assert kept == [("over", 9.0), ("runs", 1.0), ("runs", 9.0)]
