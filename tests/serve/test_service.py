"""The service without HTTP: what each kind of end leaves in the log, and that the log holds it exactly once."""

import asyncio
import copy
import gc
import json
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kit.tables import for_each
from lmworks.generate.constraint import JsonSchema
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.model.checkpoint import load
from lmworks.model.download import locate
from lmworks.model.gguf_write import save_gguf
from lmworks.records import Interaction, Message
from lmworks.serve import completion_turn, interaction_record, server
from lmworks.serve.config import ServeConfig
from lmworks.serve.events import (
    DeadlineError,
    Event,
    FailedError,
    Finished,
    Piece,
    Progress,
)
from lmworks.serve.interaction_record import Turn
from lmworks.serve.service import Service

LONG = SamplingParameters(max_tokens=400, ignore_eos=True)
SHORT = SamplingParameters(max_tokens=8, ignore_eos=True, temperature=1.0, seed=3)


@pytest.fixture
def service(tiny_folder: Path, tmp_path: Path):
    """Two slots, one place in line."""
    made = Service(tmp_path / "workspace", ServeConfig(slots=2, max_waiting=1), {"tiny": str(tiny_folder)})
    made.load()
    yield made
    made.close()


@pytest.fixture
def handbook(workspace_copy: Path):
    made = Service(workspace_copy)
    made.load()
    yield made
    made.close()


def turn(text: str = "Hello", **options) -> Turn:
    return Turn("tiny", (Message("user", text),), **({"sampling": SHORT} | options))


def run(service: Service, work: Callable[[], Coroutine[Any, Any, Any]]):
    """Run it on a loop, and let the service settle what it has left."""

    async def whole():
        try:
            return await work()
        finally:
            await service._settled(30.0)

    return asyncio.run(whole())


async def collect(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


def logged(service: Service) -> list[Interaction]:
    return [service.log.reader.get(row.id) for row in service.log.reader.find("", 1000)]


def test_a_completion_is_the_engine_s_own_and_is_logged_before_it_is_finished(service, tiny):
    async def work():
        seen = []
        async for event in service.chat(turn(conversation="c", parent="p", unit="u")):
            if isinstance(event, Finished):
                seen.append([row.id for row in service.log.reader.find()])
            seen.append(event)
        return seen

    *pieces, in_log, finished = run(service, work)
    (alone,) = Engine(tiny).generate([Request(messages=(Message("user", "Hello"),), sampling=SHORT)])
    assert finished.completion.ids == alone.ids
    assert "".join(piece.text for piece in pieces) == finished.completion.text == alone.text
    assert [t.id for piece in pieces for t in piece.tokens] == list(alone.ids)
    assert in_log == [finished.interaction.id]
    (stored,) = logged(service)
    assert stored == finished.interaction
    assert stored.token_ids == alone.ids and stored.seed == 3
    assert (stored.conversation, stored.parent, stored.unit) == ("c", "p", "u")
    rendered = tiny.chat.render((Message("user", "Hello"),), add_generation_prompt=True)
    assert (stored.rendered_prompt, stored.prompt_ids) == (rendered.text, rendered.ids)
    assert sum(v for k, v in stored.timings.items() if k != "total") == pytest.approx(stored.timings["total"])


def test_a_client_that_is_cancelled_at_any_moment_is_logged_at_most_once(service):
    """Also in the middle of submitting and of committing."""

    async def work():
        for steps in range(30):
            task = asyncio.create_task(collect(service.chat(turn(f"{steps}"))))
            for _ in range(steps):
                await asyncio.sleep(0.0005)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await service._settled(30.0)

    run(service, work)
    questions = [i.messages[-1].content for i in logged(service)]
    assert len(questions) == len(set(questions))
    assert service.models.language("tiny").running == service.models.language("tiny").waiting == 0


def test_a_model_that_fails_is_an_error_and_is_logged(service):
    worker = service.models.language("tiny")
    weights = {name: tensor.clone() for name, tensor in worker.checkpoint.model.state_dict().items()}
    broken = {name: tensor * float("nan") for name, tensor in weights.items()}
    worker.call(Engine.load_weights, broken, 1)
    with pytest.raises(FailedError):
        run(service, lambda: collect(service.chat(turn())))
    worker.call(Engine.load_weights, weights, 2)
    assert run(service, lambda: collect(service.chat(turn())))
    assert sorted((i.finish_reason, i.error) for i in logged(service)) == [
        ("error", "FloatingPointError"),
        ("length", ""),
    ]


def test_an_interaction_names_the_weights_that_made_it(service, tmp_path):
    worker = service.models.language("tiny")
    model = copy.deepcopy(worker.checkpoint.model)
    with torch.no_grad():
        model.tokens.mul_(1.01)
    run(service, lambda: collect(service.chat(turn())))
    worker.call(Engine.load_weights, model.state_dict(), 1)
    run(service, lambda: collect(service.chat(turn())))
    saved = load(worker.checkpoint.with_model(model).save(tmp_path / "saved"))
    hashes = [interaction.model for interaction in sorted(logged(service), key=lambda one: one.time)]
    assert hashes == [worker.checkpoint.fingerprint, saved.fingerprint] and hashes[0] != hashes[1]
    assert service.models.named("tiny").fingerprint == saved.fingerprint == worker.fingerprint()


def test_the_assistant_answers_in_phases_and_its_interaction_holds_the_answer(handbook):
    question = Turn("assistant", (Message("user", "How many days of leave does an employee have?"),))
    events = run(handbook, lambda: collect(handbook.chat(question)))
    *_, finished = events
    assert [e.name for e in events if isinstance(e, Progress)] == ["search", "measure", "decide"]
    assert "".join(e.text for e in events if isinstance(e, Piece)) == finished.answer.text
    stored = handbook.log.reader.get(finished.interaction.id)
    assert stored == finished.interaction
    assert stored.response == finished.answer.text and stored.confidence == finished.answer.confidence
    assert list(stored.timings) == ["queued", "search", "measure", "decide", "total"]
    assert len(stored.query_embedding) == 64 and stored.retrieved and stored.index
    assert stored.citations == finished.answer.citations


def test_questions_whose_clients_leave_are_logged_once_answered_or_not(handbook):
    async def work():
        tasks = [
            asyncio.create_task(collect(handbook.chat(Turn("assistant", (Message("user", f"What of {i}?"),)))))
            for i in range(4)
        ]
        while handbook.models.occupancy("assistant")[0] == 0:
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    before = {i.id for i in logged(handbook)}
    run(handbook, work)
    after = [i for i in logged(handbook) if i.id not in before]
    assert sorted(i.messages[-1].content for i in after) == [f"What of {i}?" for i in range(4)]
    assert {i.finish_reason for i in after} == {"cancelled"}
    assert handbook.models.occupancy("assistant") == (0, 0, 0.0)


@for_each("long", ["content", "tools", "calls", "constraint"])
def test_what_is_long_to_read_is_not_read_on_the_event_loop(service, monkeypatch, long):
    text, used = "word " * 1000, []
    tool = {"type": "function", "function": {"name": "f", "description": text, "parameters": {}}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"text": text}}}
    given = turn(text if long == "content" else "Hello", tools=(tool,) if long == "tools" else ())
    if long == "calls":
        given = replace(given, messages=(*given.messages, Message("assistant", "", (call,))))
    if long == "constraint":
        given = turn("x" * 2000, sampling=replace(SHORT, constraint=JsonSchema({"enum": [text]})))

    def spy(name: str, of: object) -> None:
        function = getattr(of, name)
        monkeypatch.setattr(of, name, lambda *given: (used.append(threading.current_thread()), function(*given))[1])

    spy("submit", service.models.language("tiny"))
    spy("record", service.log)
    with pytest.raises(ValueError, match="context"):
        run(service, lambda: collect(service.chat(given)))
    failure = interaction_record.failure_interaction(given, "too-long", time.time(), "ValueError")
    run(service, lambda: service.recorder.commit(failure))
    assert len(used) == 2 and threading.current_thread() not in used


def test_a_client_that_leaves_while_its_completion_is_committed_loses_nothing(service, monkeypatch):
    begun = threading.Event()

    def slowly(*arguments):
        begun.set()
        time.sleep(0.2)
        return interaction_record.completion_interaction(*arguments)

    monkeypatch.setattr(completion_turn, "completion_interaction", slowly)

    async def work():
        task = asyncio.create_task(collect(service.chat(turn(n=2))))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(service, work)
    assert len(logged(service)) == 2


def test_texts_to_embed_are_logged_once_however_it_ends(handbook, monkeypatch, wait_until):
    name = next(model.name for model in handbook.models if model.kind == "embedding")
    before = handbook.log.reader.count("operation:embeddings")

    async def cancelled():
        task = asyncio.create_task(handbook.embed(name, ["cancelled"]))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def broken(*_):
        raise FloatingPointError

    run(handbook, lambda: handbook.embed(name, ["fine"]))
    run(handbook, cancelled)
    with monkeypatch.context() as patched:
        patched.setattr(handbook.models.encoder(name), "encode", broken)
        with pytest.raises(FailedError):
            run(handbook, lambda: handbook.embed(name, ["broken"]))
    with monkeypatch.context() as patched:
        patched.setattr(handbook.models.encoder(name), "encode", lambda *_: time.sleep(0.3))
        patched.setattr(handbook._encoding, "_seconds", 0.05)
        with pytest.raises(DeadlineError):
            run(handbook, lambda: handbook.embed(name, ["late"]))
    rows = [handbook.log.reader.get(row.id) for row in handbook.log.reader.find("operation:embeddings", 100)]
    ends = {i.messages[0].content: (i.finish_reason, i.error) for i in rows}
    assert len(rows) == before + 4
    assert ends["fine"] == ("stop", "")
    assert ends["cancelled"] == ("cancelled", "client_left")
    assert ends["broken"] == ("error", "FloatingPointError")
    assert ends["late"] == ("cancelled", "deadline_exceeded")
    wait_until(lambda: handbook.models.occupancy(name)[:2] == (0, 0))  # what had begun works on to its end


def test_a_workspace_keeps_its_policy_when_another_model_is_served_from_it(workspace_copy, tiny_folder):
    current = json.loads((workspace_copy / "current.json").read_text("utf-8"))
    current["log"] = {"redact": ["email"]}
    (workspace_copy / "current.json").write_text(json.dumps(current), "utf-8")
    service = Service(workspace_copy, ServeConfig(), {"tiny": str(tiny_folder)})
    service.load()
    try:
        run(service, lambda: collect(service.chat(turn("mail me at alice@example.org"))))
        (stored,) = logged(service)
        assert stored.messages[-1].content == "mail me at [email]"
    finally:
        service.close()


@for_each(
    ("source", "problem"), [("folder", "config.json"), ("text", "GGUF"), ("nothing", "nothing"), ("reader", "reader")]
)
def test_what_is_no_model_is_refused_before_anything_is_announced_or_written(source, problem, tmp_path):
    path = locate("minilm-reader") if source == "reader" else tmp_path / source  # it answers no request
    if source in ("folder", "text"):
        path.mkdir() if source == "folder" else path.write_text("a note")
    announced: list[str] = []
    with pytest.raises((FileNotFoundError, ValueError), match=problem):
        server.run(tmp_path / "workspace", ServeConfig(port=0), {source: str(path)}, announced.append)
    assert announced == [] and not (tmp_path / "workspace").exists()


def test_the_folder_that_pull_makes_of_a_gguf_file_is_served_under_its_name(tiny, tmp_path):
    (tmp_path / "pulled").mkdir()
    file = save_gguf(tiny, tmp_path / "pulled" / "tiny.gguf", "F32")
    models = {"pulled": str(tmp_path / "pulled")}
    server.check_sources(models)
    service = Service(tmp_path / "w", ServeConfig(), models)
    service.load()
    assert [(one.name, one.fingerprint) for one in service.models] == [("pulled", load(file).fingerprint)]
    service.close()


def test_a_workspace_without_a_model_is_not_served(tmp_path):
    empty = {"recipe": "clean", "question": "", "models": {}, "stages": {}, "uses": {}}
    (tmp_path / "current.json").write_text(json.dumps(empty))
    with pytest.raises(FileNotFoundError, match="lmworks up --docs"):
        Service(tmp_path)


def test_a_closed_service_keeps_no_model(tiny_folder, tmp_path):
    """Whoever still knows it, as an app's functions do."""
    service = Service(tmp_path / "w", ServeConfig(), {"tiny": str(tiny_folder)})
    service.load()
    model = weakref.ref(service.models.loaded.languages["tiny"].checkpoint.model)
    service.close()
    gc.collect()
    assert model() is None
