"""Experiments through the real server: arms, outcomes, an A/A that finds nothing and an A/B that does, the switches."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lmworks.config import to_mapping
from lmworks.monitor.experiment import assign, read_state, start
from lmworks.monitor.experiment_results import read_out
from lmworks.monitor.log import Log, LogFullError
from lmworks.records import Experiment, Interaction, Message
from lmworks.serve.live_experiments import LiveExperiments

CONTROL = {"share": 0.5}
DAY = 86400.0


def begin(service, name: str, candidate: dict, **changes) -> Experiment:
    arms = {"control": CONTROL, "candidate": {"share": 0.5, **candidate}}
    spec = Experiment(name, arms, **{"metric": "click", "route": "tiny", **changes})
    start(service.log, spec, time.time(), "a test")
    service.experiments.look()
    return spec


def ask(http, unit: str, **fields) -> str:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "What?"}], "max_tokens": 1, **fields}
    response = http.post("/v1/chat/completions", json={**body, "metadata": {"conversation": unit}})
    assert response.status_code == 200, response.text
    return response.json()["id"].removeprefix("chatcmpl-")


@pytest.fixture
def running(start):
    with start() as one:
        yield one


def replayed(running, spec: Experiment, rates: dict[str, float], units: int) -> None:
    """Conversations of one turn, whose simulated users click by the arm that answered."""
    draw = random.Random(5)
    with running.http() as http:
        for number in range(units):
            key = ask(http, f"{spec.name}-{number}")
            logged = running.service.log.reader.get(key)
            expected = assign(spec, f"{spec.name}-{number}", 1.0, 0.0)
            assert (logged.experiment, logged.arm, logged.unit) == (spec.name, expected.arm, expected.unit)  # type: ignore[union-attr]
            if draw.random() < rates[logged.arm]:
                posted = http.post("/v1/outcomes", json={"name": "click", "interaction": key})
                assert posted.json() == {"object": "outcome", "new": True}


def test_arms_answer_as_they_say_and_outcomes_decide(running):
    service = running.service
    spec = begin(service, "length", {"settings": {"temperature": 0.5}}, minimum_effect=0.2, planned_units=80)
    replayed(running, spec, {"control": 0.05, "candidate": 0.95}, 40)
    warm = [service.log.reader.get(row[0]) for row in service.log.reader.rows("interactions", "id")]
    assert {(one.arm, one.parameters["temperature"]) for one in warm} == {("control", 1.0), ("candidate", 0.5)}
    found = read_out(service.log.reader, spec, time.time() + 8 * DAY)
    assert found.decision.kind == "stop" and "candidate is better" in found.decision.words
    with running.http() as http:
        assert "candidate is better" not in http.get("/experiments/length").text  # their windows are open yet
        assert "length" in http.get("/experiments").text
        form = {"kind": "stopped", "reason": "seen enough"}
        assert http.post("/experiments/length", data=form).status_code == 303
        service.experiments.look()
        assert service.log.reader.get(ask(http, "later")).experiment == ""
        assert http.post("/experiments/length", data=form).status_code == 400
        assert http.get("/experiments/none").status_code == 404


def test_equal_arms_stay_equal(running):
    spec = begin(running.service, "same", {}, minimum_effect=0.2, planned_units=80)
    replayed(running, spec, {"control": 0.5, "candidate": 0.5}, 40)
    assert read_out(running.service.log.reader, spec, time.time() + 8 * DAY).decision.kind == "extend"


def test_an_arm_that_cannot_answer_ends_the_experiment_and_harms_nobody(running, wait_until):
    service = running.service
    begin(service, "gone", {"model": "no such model"})
    with running.http() as http:
        keys = [ask(http, f"c{number}") for number in range(8)]
    assert {service.log.reader.get(key).arm for key in keys} <= {"", "control"}
    kinds = lambda: [row[0] for row in service.log.reader.rows("experiment_events", "kind")]  # noqa: E731
    wait_until(lambda: "killed" in kinds())


def test_a_breached_guardrail_sends_everybody_to_the_control(running):
    service = running.service
    spec = begin(service, "slow", {}, guardrails={"-click": 0.05}, metric="copy")
    replayed(running, spec, {"control": 0.0, "candidate": 1.0}, 40)
    (state,) = service.experiments._states
    assert not service.experiments.check(state)  # the windows are open
    service.experiments._clock = time.time() + 8 * DAY
    assert service.experiments.check(state)
    service.experiments.look()
    with running.http() as http:
        assert service.log.reader.get(ask(http, "after")).arm == ""


def test_slow_answers_are_stopped_after_an_hour_not_after_the_window(tmp_path):
    """So that the harm does not last: 300 units, of which those of the candidate wait for nine seconds."""
    arms = {"control": CONTROL, "candidate": CONTROL}
    spec = Experiment("wait", arms, "click", guardrails={"seconds>4": 0.05, "-click": 0.05}, window_days=7.0)
    with Log(tmp_path / "log.sqlite", capacity=2000) as log, ThreadPoolExecutor(1) as threads:
        start(log, spec, 1.0, "a test")
        now = time.time()
        for number in range(300):
            found = assign(spec, f"u{number}", 1.0, now - 2 * 3600)
            assert found is not None
            log.append("assignments", [to_mapping(found)])
            seconds = {"total": 9.0 if found.arm == "candidate" else 1.0}
            about = {"experiment": spec.name, "unit": found.unit, "arm": found.arm, "timings": seconds}
            log.record(Interaction(f"{number:016x}", found.time, (Message("user", "What?"),), "That.", **about)).result(
                30
            )
        live = LiveExperiments(log, tmp_path, threads, 1.0)
        assert live.check(read_state(log.reader, spec.name))
        (kind, reason) = log.reader.rows("experiment_events", "kind, reason", "kind != ?", ["started"])[0]
        assert kind == "killed" and "seconds>4" in reason
        assert read_state(log.reader, spec.name).status == "stopped"


def test_answers_in_the_shadow_are_logged_and_never_shown(running, wait_until):
    service = running.service
    begin(service, "dark", {"settings": {"temperature": 0.5}}, shadow=True, metric="error")
    with running.http() as http:
        key = ask(http, "c1")
    reader = service.log.reader
    wait_until(lambda: reader.count("experiment:dark") == 2)
    seen, shadow = reader.get(key), next(one for one in reader.interactions("arm:candidate"))
    assert (seen.arm, seen.unit, shadow.unit, shadow.conversation) == ("control", "c1", "", "")
    assert shadow.lineage["shadow"] == key and shadow.parameters["temperature"] == 0.5
    assert [one.id for one in reader.conversation("c1")] == [key]
    assert not reader.rows("assignments")


def test_a_log_that_takes_nothing_is_said_when_the_request_has_waited_its_time(start, monkeypatch):
    def full(*_):
        raise LogFullError("full")

    with start(deadline_seconds=0.5) as running, running.http() as http:
        begin(running.service, "full", {})
        monkeypatch.setattr(Log, "append", full)
        body = {"model": "tiny", "messages": [{"role": "user", "content": "?"}], "metadata": {"conversation": "c"}}
        response = http.post("/v1/chat/completions", json=body, timeout=20)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "log_full")
        monkeypatch.undo()
