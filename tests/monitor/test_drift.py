"""Drift and alerts over a log of five weeks, in both databases: a planted change, thin data, delivery that fails."""

import io
import json
import math
import random
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from kit.tables import for_each
from lmworks.monitor.alerts import Alert, AlertConfig, Rule, Watch, mute, read_config
from lmworks.monitor.drift import DriftConfig, catch_up, measure, read_rows
from lmworks.monitor.log import Log
from lmworks.records import Interaction, Message

DAY = 86400.0
END = 36 * DAY  # of the log, at midnight
CONFIG = DriftConfig(minimum=50, false_alarms=0.5, warnings=2)


def interaction(number: int, moment: float, new: bool, abstained: bool) -> Interaction:
    draw = random.Random(number)
    topic = 9 if new else draw.randrange(4)
    words = ("password", "refund", "address", "booking", *("",) * 5, "outage")[topic]
    vector = [draw.gauss(6.0 * (place == topic), 1.0) for place in range(10)]
    return Interaction(
        f"{'new' if new else 'old'}{number}", moment, (Message("user", f"a question about {words}"),),
        "I cannot say." if abstained else "Look there. [1]", query_embedding=tuple(vector), unit=f"u{number}",
        abstained=abstained, confidence=draw.random(), token_log_probabilities=(-draw.random(),),
        timings={"total": draw.random()}, input_tokens=9, output_tokens=draw.randrange(5, 20),
    )  # fmt: skip


def traffic() -> list[Interaction]:
    """Eighty requests a day at noon and thirty at night, which abstain more; the last day has a new topic."""
    found, draw = [], random.Random(1)
    for day in range(36):
        for number in range(110):
            night = number % 4 == 3
            moment = day * DAY + (2 if night else 12) * 3600 + draw.random() * 3600
            new = day == 35 and number % 5 == 0
            found.append(interaction(day * 1000 + number, moment, new, draw.random() < (0.5 if night else 0.1)))
    return found


@pytest.fixture(scope="module")
def log(module_location):
    with Log(module_location, capacity=10_000) as opened:
        for future in [opened.record(one) for one in traffic()]:
            future.result(60)
        yield opened


def test_a_new_topic_is_alarmed_with_its_requests_and_the_day_before_is_not(log):
    catch_up(log, END + 60, CONFIG, most=2)
    rows = read_rows(log.reader)
    before, after = ([row for row in rows if row.time == moment] for moment in (END - DAY, END))
    assert {row.level for row in before} == {"ok", "missing"}
    alarmed = {row.signal: row for row in after if row.level == "alarm"}
    assert {"unseen_words", "questions", "off_topic"} <= set(alarmed) and "abstained" not in alarmed
    assert all(one.startswith("new") for one in alarmed["unseen_words"].examples)
    clusters = alarmed["questions"].clusters
    assert clusters[0].share == pytest.approx(0.2, abs=0.03) and clusters[0].before < 0.02
    assert all(one.startswith("new") for one in clusters[0].examples)
    for now in (END + 3600, END - 3 * DAY):  # the same day again, and a clock that went back
        assert catch_up(log, now, CONFIG, most=2) == []
    assert next(row for row in after if row.signal == "log_probability").recent == 110


@for_each(
    ("end", "said"),
    [(6 * DAY, "days are missing"), (END + 2 * DAY, "more requests of different users"), (-1.0, "days")],
)
def test_thin_data_says_what_is_missing(log, end, said):
    (row,) = measure(log.reader, end, CONFIG)
    assert row.level == "missing" and said in row.note


def test_no_traffic_is_no_alarm(location):
    with Log(location) as log:
        watch = Watch(log, AlertConfig({"slow": Rule("seconds", alarm=0.0)}), None)  # type: ignore[arg-type]
        assert watch.check(END) == []
        assert [(row.level, row.note) for row in read_rows(log.reader)][-1] == ("missing", "no traffic yet")


class Hook:
    """A webhook on this machine that refuses as many deliveries as `failures` says."""

    def __init__(self, failures: int) -> None:
        self.failures, self.bodies = failures, []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                hook.failures -= 1
                self.send_response(500 if hook.failures >= 0 else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/secret"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def test_an_alert_is_delivered_retried_repeated_muted_and_resolved(log, tmp_path):
    hook, error = Hook(failures=99), io.StringIO()
    rule = Rule("abstained", warn=0.05, alarm=0.9, minutes=1440, every_minutes=1, renotify_hours=1)
    quiet = Rule("thumbs_down", alarm=0.1, minutes=1440)  # nobody gave a thumb
    config = AlertConfig({"unsure": rule, "quiet": quiet}, CONFIG, ("file", hook.url))
    catch_up(log, END - DAY, CONFIG, most=1)
    watch = Watch(log, config, tmp_path, error=error)

    def unsure(now: float) -> Alert:
        return next(one for one in watch.check(now) if one.rule == "unsure")

    first = unsure(END + 1)
    assert first.level == "warn" and first.evidence["n"] == 110 and len(first.evidence["examples"]) == 50
    assert "not delivered: http://127.0.0.1" in first.note and "secret" not in first.note + error.getvalue()
    hook.failures = 0
    assert unsure(END + 2).note == ""  # the hook takes it now
    lines = [json.loads(line) for line in (tmp_path / "alerts.jsonl").read_text().splitlines()]
    assert [one["rule"] for one in lines].count("unsure") == 1  # the file had it at once
    assert {one["signal"] for one in lines} >= {"unseen_words", "questions"}
    count = len(hook.bodies)
    assert unsure(END + 120).note == "" and len(hook.bodies) == count
    unsure(END + 3700)
    assert [body["rule"] for body in hook.bodies[count:]] == ["unsure"]
    mute(log, "unsure", END + 9e3, END + 3800)
    unsure(END + 8e3)
    assert len(hook.bodies) == count + 1
    assert not [one for one in watch.check(END + 4 * DAY) if one.rule == "quiet"]
    again = Watch(log, config, tmp_path, error=error)  # another process: what is open stays open
    assert len([one for one in again.check(END + 5 * DAY) if one.rule == "unsure"]) == 1


def test_a_configuration_that_is_wrong_names_what_is_allowed(tmp_path):
    (tmp_path / "alerts.toml").write_text('[rules.slow]\nsignal = "second"\nalarm = 3\n')
    with pytest.raises(ValueError, match='did you mean "seconds"'):
        read_config(tmp_path)
    (tmp_path / "alerts.toml").write_text("[drift]\nfalse_alarms = 0.25\n")
    assert read_config(tmp_path).drift.false_alarms == 0.25 and math.isclose(DriftConfig(hours=12).runs, 60)
