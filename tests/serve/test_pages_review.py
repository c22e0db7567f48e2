"""The pages Review and Overview: one answer at a time, verdicts and rows as they were meant, five true lines."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from small_system import HOSTILE, Page, StandIn, index_of, inert, interaction

from lmworks.artefact import write_json
from lmworks.monitor.config import ReviewConfig, ReviewRule
from lmworks.monitor.experiment import start
from lmworks.monitor.review import items
from lmworks.monitor.review_sampling import fill, review_id
from lmworks.records import Experiment, Feedback
from lmworks.workspace import Current


@pytest.fixture
def service(tmp_path) -> Iterator[StandIn]:
    (tmp_path / "workspace").mkdir()
    made = StandIn(tmp_path / "workspace", index_of(tmp_path / "index", []))
    now = time.time()
    last = max(range(5), key=lambda number: review_id(f"{number:016x}"))
    for number in range(5):
        one = interaction(number, f"Why {number}? {HOSTILE}", f"Because. {HOSTILE}", error="E" * (number == last))
        made.log.record(replace(one, time=now - 60 + number)).result()
    made.log.attach(Feedback(f"{0:016x}", now, "thumbs", "up")).result()
    fill(made.log, ReviewConfig({"random": ReviewRule(1.0)}), now)
    yield made
    made.close()


def test_an_answer_is_reviewed_and_the_one_before_is_sent_by_one_key(service):
    client, seen = service.client(), []
    assert inert(client.get("/review").text) and "0 of 30, 30 are missing" in client.get("/review").text
    assert client.get("/review/next").status_code == 400
    address = "/review/next?by=ann"
    for choice in ("bad", "good", "unsure"):
        page = inert(client.get(address).text)
        assert inert(client.get("/review/next?by=bob").text).text != page.text
        action = next(one["action"] for one in page.all("form", "action") if one.get("id") == "ballot")
        seen.append(action.rpartition("/")[2])
        fields = {"by": "ann", "choice": choice, "problem": "wrong" if choice == "bad" else "none", "better": "So."}
        answer = client.post(action, data=fields)
        assert answer.status_code == 303
        address = answer.headers["location"]
    (text,) = [client.get(address).text]
    keys = {one["value"]: one["data-key"] for one in Page(text).all("button", "data-key") if one["name"] == "send"}
    assert keys == {"questions": "q", "preferences": "p", "labels": "k", "bugs": "b"}
    assert client.post(f"/review/{seen[0]}", data={"by": "ann", "send": "preferences"}).status_code == 303
    refused = client.post(f"/review/{seen[2]}", data={"by": "ann", "send": "labels"})
    assert refused.status_code == 400 and "unsure" in refused.text
    assert client.post(f"/review/{seen[0]}", data={"by": "eve", "send": "bugs"}).status_code == 400
    assert client.post(f"/review/{seen[0]}", data={"by": "ann", "choice": "fine"}).status_code == 400
    (row,) = [json.loads(line) for line in (service.workspace / "review" / "preferences.jsonl").open()]
    assert row["chosen"] == "So." and row["provenance"]["annotator"] == "ann"
    found = {one.id: one for one in items(service.log.reader)}
    verdicts = [found[one].judgements["ann"].choices["verdict"] for one in seen]
    assert verdicts == ["bad", "good", "unsure"] and found[seen[0]].sent == ("preferences",)


def test_the_overview_tells_traffic_quality_experiments_alarms_and_versions(service):
    first = service.client().get("/overview").text
    for part in (
        "5 requests in 24 hours",
        "1 failed",
        "1 thumbs up and 0 down",
        "30 are missing",
        "none yet",
        "none is open",
    ):
        assert part in inert(first).text, part
    current = Current("toy", "", {}, {}, {}, version="a" * 16)
    for one in (current, replace(current, version="b" * 16)):
        write_json(service.workspace / "versions" / f"{one.version}.json", one)
    write_json(service.workspace / "current.json", current)
    service.current = current
    alert = {"rule": "thumbs", "signal": HOSTILE, "time": time.time(), "level": "alarm", "state": "open"}
    service.log.append("alerts", [alert]).result()
    start(service.log, Experiment("tone", {arm: {"share": 0.5} for arm in "ab"}, "click"), time.time(), "a test")
    page = inert(service.client().get("/overview").text).text
    for part in ("1 open; the newest: alarm thumbs", "running: tone", f"{'a' * 16} is live, as it was built; 1 wait"):
        assert part in page, part
