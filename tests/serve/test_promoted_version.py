"""A server that runs answers by the version that was promoted, that was rolled back to, or that an arm names."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from lmworks.monitor.experiment import assign, change_state, read_state, start
from lmworks.records import Experiment, Interaction, Message
from lmworks.serve.config import ServeConfig
from lmworks.serve.events import Finished
from lmworks.serve.interaction_record import Turn
from lmworks.serve.service import Service
from lmworks.system import System
from lmworks.versions import Gate, keep, promote, rollback, version_id
from lmworks.workspace import VERSION, Current, read_current


@pytest.fixture
def service(workspace_copy) -> Iterator[Service]:
    made = Service(workspace_copy, ServeConfig())
    made.load()
    yield made
    made.close()


@pytest.fixture
def other(workspace_copy) -> Current:
    """A second version of the system, which waits."""
    first = read_current(workspace_copy)
    made = replace(first, writing=replace(first.writing, statements=2))
    made = replace(made, version=version_id(workspace_copy, made))
    keep(workspace_copy, made)
    return made


async def answer(service: Service, conversation: str = "") -> Interaction:
    turn = Turn("assistant", (Message("user", "How many days of leave?"),), conversation=conversation)
    events = [one async for one in service.chat(turn)]
    return next(one.interaction for one in events if isinstance(one, Finished))


def test_an_arm_answers_by_its_version(service, other):
    """Until the experiment ends, when all conversations get what is live."""
    arms = {"control": {"share": 0.5}, "candidate": {"share": 0.5, "version": other.version[:6]}}
    experiment = Experiment("versions", arms, "click")
    start(service.log, experiment, time.time(), "a test")
    versions = {"control": service.current.version, "candidate": other.version}

    async def state() -> None:
        service.experiments.look()
        for number in range(6):
            found, assigned = await answer(service, f"c{number}"), assign(experiment, f"c{number}", 1.0, 0.0)
            assert assigned and found.arm == assigned.arm and found.lineage[VERSION] == versions[found.arm]
        change_state(service.log, "versions", "stopped", time.time(), "a test")
        service.experiments.look()
        assert {(await answer(service, f"c{number}")).lineage[VERSION] for number in range(6)} == {versions["control"]}

    asyncio.run(state())
    arms_seen = service.log.reader.rows("interactions", "DISTINCT arm", "experiment = ? ORDER BY arm", ["versions"])
    assert arms_seen == [("candidate",), ("control",)]


def test_an_experiment_that_ends_leaves_its_version_to_the_question_it_answers(service, other, wait_until, monkeypatch):
    arms = {"control": {"share": 0.01}, "candidate": {"share": 0.99, "version": other.version}}
    experiment, respond, ended = Experiment("ends", arms, "click"), System.respond, threading.Event()
    monkeypatch.setattr(System, "respond", lambda *given, **named: ended.wait(30) and respond(*given, **named))
    start(service.log, experiment, time.time(), "a test")
    service.experiments.look()
    system = weakref.ref(service.experiments.versions[other.version])
    late = replace(Turn("assistant", (Message("user", "Who?"),)), version=other.version, conversation="")

    async def state() -> Interaction:
        asked = asyncio.create_task(answer(service, "c1"))
        while not system().waiting:  # type: ignore[union-attr]
            await asyncio.sleep(0.01)
        change_state(service.log, "ends", "stopped", time.time(), "a test")
        service.experiments.look()
        monkeypatch.setattr(service.experiments.__class__, "arm_of", lambda *_: asyncio.sleep(0, (late, None)))
        ended.set()
        assert (await answer(service)).lineage[VERSION] == service.current.version  # it ended while this was assigned
        return await asked

    assert asyncio.run(state()).lineage[VERSION] == other.version
    wait_until(lambda: gc.collect() >= 0 and system() is None)


def test_an_arm_whose_version_is_not_there_ends_the_experiment(service):
    arms = {"control": {"share": 0.5}, "candidate": {"share": 0.5, "version": "ffffff"}}
    start(service.log, Experiment("gone", arms, "click"), time.time(), "a test")
    service.experiments.look()
    state = read_state(service.log.reader, "gone")
    assert state.status == "stopped" and "cannot be opened" in state.events[-1].reason
    assert asyncio.run(answer(service, "c1")).experiment == ""


def test_a_promotion_and_a_rollback_reach_a_server_that_runs(service, other):
    workspace, first = service.workspace, read_current(service.workspace)

    async def until(wanted: str) -> None:
        deadline = time.monotonic() + 60
        while (await answer(service)).lineage[VERSION] != wanted:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)

    async def state() -> None:
        assert (await answer(service)).lineage[VERSION] == first.version
        promote(workspace, other, Gate(True, "", {}), "shorter")
        await until(other.version)
        assert service.current == other
        rollback(workspace)
        await until(first.version)

    asyncio.run(state())


def test_a_promotion_loses_no_question(service, other, serve, wait_until, monkeypatch):
    """Of those that wait in line for the version before, and those that come in the moment of the change."""
    respond = System.respond

    def slowly(*arguments, **named):
        time.sleep(0.1)
        return respond(*arguments, **named)

    monkeypatch.setattr(System, "respond", slowly)
    before, first = weakref.ref(service.grounding.grounded), service.current.version

    def ask(number: int) -> int:
        body = {"model": "assistant", "messages": [{"role": "user", "content": f"How many days of leave? {number}"}]}
        return running.http().post("/v1/chat/completions", json=body).status_code

    with serve(service) as running, ThreadPoolExecutor(12) as clients:
        answers = [clients.submit(ask, number) for number in range(20)]
        wait_until(lambda: service.grounding.grounded.waiting >= 10)
        promote(service.workspace, other, Gate(True, "", {}), "shorter")
        service.grounding.followed = 0.0  # a second is over
        while service.current.version == first or len(answers) < 40:
            answers.append(clients.submit(ask, len(answers)))
            time.sleep(0.05)
        assert [answer.result() for answer in answers] == [200] * len(answers)
        logged = list(service.log.reader.interactions())
        numbers = sorted(int(one.messages[-1].content.split()[-1]) for one in logged)
        assert numbers == list(range(len(answers)))
        assert {one.lineage[VERSION] for one in logged} == {first, other.version}
        wait_until(lambda: gc.collect() >= 0 and before() is None)
