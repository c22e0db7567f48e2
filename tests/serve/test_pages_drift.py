"""The pages of drift and alarms: evidence with questions, fifty to review with one button, muting."""

import time

import httpx
import pytest

from lmworks.config import to_mapping
from lmworks.monitor.drift import Cluster, SignalRow
from lmworks.records import Interaction, Message


@pytest.fixture
def running(start):
    with start() as one:
        yield one


def test_an_alarm_shows_its_evidence_and_goes_to_review(running):
    log, now = running.service.log, time.time()
    for number in range(3):
        log.record(Interaction(f"i{number}", now, (Message("user", f"the <outage> {number}"),), "")).result(20)
    shared = {"p": 1e-4, "adjusted": 1e-3, "effect": 0.2, "value": 0.3, "expected": 0.1, "low": 0.05, "high": 0.15}
    rows = [
        SignalRow("topic", "input", "category", now - day * 86400, "alarm", examples=("i0", "i1", "gone"),
                  clusters=(Cluster(0.2, 0.0, 1e-6, ("i2",)),), **shared) for day in range(3)
    ]  # fmt: skip
    log.append("drift", [{"time": r.time, "signal": r.signal, "record": to_mapping(r)} for r in rows]).result(20)
    alert = {"id": "a1", "rule": "drift", "signal": "topic", "time": now, "level": "alarm", "state": "open"}
    log.append("alerts", [{**alert, "evidence": to_mapping(rows[0])}]).result(20)
    with running.http(follow_redirects=True) as http:
        drift = http.get("/drift")
        assert "the &lt;outage&gt; 0" in drift.text and 'class="band"' in drift.text and "20.0 %" in drift.text
        assert http.get("/drift?signal=nothing").status_code == 404
        assert "drift of topic" in http.get("/alarms").text
        page = http.get("/alarms/a1").text
        assert "Send 2 to review" in page and "the &lt;outage&gt; 2" in page
        sent = http.post("/alarms/a1", data={"action": "review"})
        assert (
            sent.url.query == b"sent=2"
            and len(log.reader.rows("reviews", "interaction", "rule = ?", ["alarm:drift"])) == 2
        )
        assert http.post("/alarms/a1", data={"action": "review"}).url.query == b"sent=0"
        assert "drift is muted until" in http.post("/alarms/a1", data={"action": "mute", "hours": "2"}).text
        assert http.post("/alarms/a1", data={"action": "mute", "hours": "-1"}).status_code == 400
        assert http.get("/alarms/none").status_code == 404


def test_pages_of_an_empty_log_say_what_to_run(running):
    assert "lmworks drift" in httpx.get(f"{running.url}/drift").text
    assert "lmworks alerts run" in httpx.get(f"{running.url}/alarms").text
