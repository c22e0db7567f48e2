"""Stages that no answer needs are made beside the server: with low priority, visibly, and never in its way."""

import json
import sys
import time
from dataclasses import replace

import pytest
from small_system import StandIn, index_of, inert, stage

from kit.tables import for_each
from lmworks.artefact import CURRENT, read_json, write_json
from lmworks.records import Message
from lmworks.serve.config import ServeConfig
from lmworks.serve.interaction_record import Turn
from lmworks.serve.remaining_stages import RemainingStages
from lmworks.serve.service import Service
from lmworks.workspace import Current


def remaining(program: str, said: list[str]) -> RemainingStages:
    return RemainingStages([sys.executable, "-uc", program, "build"], ("evaluation",), said.append)


def test_the_process_has_low_priority_one_thread_and_its_end_is_told(wait_until):
    said: list[str] = []
    made: list[str] = []
    one = remaining("import os; print(os.nice(0), os.environ['OMP_NUM_THREADS'])", said)
    one.start(lambda: made.append(one.state))
    wait_until(lambda: len(said) == 2)
    assert one.line == "10 1" and made == ["made"] and said[-1] == "Made: evaluation"
    one.stop()
    assert one.state == "made"


def test_a_failure_is_told_and_takes_nothing_up(wait_until):
    said: list[str] = []
    one = remaining("import sys; sys.exit('lmworks: no space left')", said)
    one.start(lambda: said.append("taken up"))
    wait_until(lambda: one.state == "failed" and len(said) == 2)
    assert "no space left" in said[-1] and "lmworks build" in said[-1]


def test_a_stop_is_a_ctrl_c_and_no_failure(tmp_path, wait_until):
    said: list[str] = []
    cleaned = tmp_path / "cleaned"
    program = f"""
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in its background deaf to it
try:
    print("begun")
    time.sleep(60)
finally:
    open({str(cleaned)!r}, "w").close()
"""
    one = remaining(program, said)
    one.start(lambda: said.append("taken up"))
    wait_until(lambda: one.line == "begun")
    one.stop()
    assert cleaned.exists() and one.state == "stopped" and "taken up" not in said
    time.sleep(0.1)
    assert not any("Not made" in line for line in said)


def test_what_is_stopped_before_it_began_is_never_begun():
    one = remaining("print('begun')", [])
    one.stop()
    one.start(lambda: None)
    assert one.state == "stopped"


UNFINISHED = {"documents": "corpus.read", "evaluation": "ground.evaluate"}


@pytest.fixture
def service(tmp_path):
    stages = {"documents": stage(tmp_path, "documents", "corpus.read")}
    made = StandIn(tmp_path, index_of(tmp_path / "index", []), Current("r", "", {}, stages, UNFINISHED))
    yield made
    made.close()


@for_each("path", ["/evaluation", "/system"])
def test_the_pages_say_what_is_missing_and_how_it_goes(service, path):
    client, service.remaining, unfinished = service.client(), None, replace(service.current, uses=UNFINISHED)
    states = {"waiting": "Still running", "running": "7 of 9", "failed": "Not made: evaluation", "made": "A new start"}
    for state, told in {None: "Not made yet", **states}.items():
        if state is not None:
            service.remaining = remaining("", [])
            service.remaining.state, service.remaining.line = state, "7 of 9 questions <b>"
        service.current = unfinished
        page = inert(client.get(path).text)
        assert told in page.text and "evaluation" in page.text
        service.current = replace(unfinished, uses={"documents": "corpus.read"})
        assert told not in inert(client.get(path).text).text


def test_what_was_made_meanwhile_is_shown_and_named_in_the_lineage_of_the_next_answer(workspace_copy):
    document = read_json(workspace_copy / CURRENT)
    write_json(workspace_copy / CURRENT, {**document, "uses": {**document["uses"], "evaluation": "ground.evaluate"}})
    service = Service(workspace_copy, ServeConfig())
    try:
        service.load()
        assert service.current.unfinished == ("evaluation",)
        grounded, before = service.grounding.grounded, list(service.models)
        turn = Turn("assistant", (Message("user", "How many days of leave?"),))
        assert "evaluation" not in grounded.ask(turn, "1", 0.0, print, print).result()[0].lineage
        finished = read_json(workspace_copy / CURRENT)
        finished["stages"]["evaluation"] = finished["stages"]["questions"]  # any artefact
        other = json.loads(json.dumps(finished))
        other["stages"]["index"] = "stages/index/other"
        write_json(workspace_copy / CURRENT, other)  # built of other documents meanwhile
        service.grounding.take_up()
        assert service.current.unfinished == ("evaluation",) and list(service.models) == before
        write_json(workspace_copy / CURRENT, finished)
        service.grounding.take_up()
        assert service.current.unfinished == ()
        assert "evaluation" in grounded.ask(turn, "2", 0.0, print, print).result()[0].lineage
    finally:
        service.close()
