"""Many at once, those who leave, and those who have to wait."""

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from kit.servers import serving
from kit.tables import for_each
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.model.transformer import Transformer
from lmworks.serve.config import ServeConfig
from lmworks.serve.service import Service

MESSAGES = [{"role": "user", "content": "hello"}]
LONG = {"model": "tiny", "messages": MESSAGES, "max_tokens": 450, "ignore_eos": True}


@pytest.fixture
def slowly(monkeypatch):
    """Every step of an engine takes a while, so that a request is certainly still running when a test acts."""
    step = Engine.step
    monkeypatch.setattr(Engine, "step", lambda engine: (time.sleep(0.01), step(engine))[1])


@contextlib.contextmanager
def blocked(worker):
    """Hold the engine's thread inside a step, with one request in its slot."""
    entered, release = threading.Event(), threading.Event()

    def listener(delta):
        entered.set()
        release.wait(60)

    identifier = worker.submit(Request(prompt_ids=(5,), sampling=SamplingParameters(450, ignore_eos=True)), listener)
    assert entered.wait(60)
    try:
        yield
    finally:
        worker.cancel(identifier)
        release.set()


def test_sixteen_streams_do_not_mix(start):
    with start(slots=5) as running:
        client = running.client()

        def whole(seed: int) -> str:
            options = {"model": "tiny", "messages": [{"role": "user", "content": f"number {seed}"}], "seed": seed}
            chunks = client.chat.completions.create(**options, max_tokens=25, stream=True)
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

        alone = [whole(seed) for seed in range(16)]
        with ThreadPoolExecutor(16) as threads:
            together = list(threads.map(whole, range(16)))
    assert together == alone
    assert len(set(alone)) == 16


@for_each(
    ("path", "stream"),
    [
        ("/v1/chat/completions", True),
        ("/v1/completions", False),
    ],
)
def test_a_client_that_leaves_ends_its_request_and_is_logged_once(start, slowly, wait_until, path, stream):
    body = {**LONG, "stream": stream}
    if path == "/v1/completions":
        body = {key: value for key, value in body.items() if key != "messages"} | {"prompt": ["a", "b"]}
    with start() as running:
        worker = running.service.models.language("tiny")
        with running.http() as client:
            if stream:
                with client.stream("POST", path, json=body) as response:
                    next(response.iter_lines())
            else:
                with pytest.raises(httpx.ReadTimeout):
                    client.post(path, json=body, timeout=httpx.Timeout(60, read=0.3))
        wait_until(lambda: worker.running == worker.waiting == 0)
        expected = 2 if path == "/v1/completions" else 1
        wait_until(lambda: running.service.log.reader.count() == expected)
        rows = running.service.log.reader.find()
        assert [row.finish_reason for row in rows] == ["cancelled"] * expected
        assert all(row.error == "client_left" and row.output_tokens < 450 for row in rows)


def test_the_server_answers_others_while_it_generates(start):
    with start(slots=1) as running, blocked(running.service.models.language("tiny")):
        assert running.http().get("/health").json() == {"status": "ok"}
        assert running.http().get("/v1/models").status_code == 200
        assert running.http().get("/ready").status_code == 200


def test_a_full_queue_refuses_and_says_when_to_come_again(start, wait_until):
    with start(slots=1, max_waiting=1) as running:
        worker = running.service.models.language("tiny")
        with ThreadPoolExecutor(1) as threads, blocked(worker):
            waiting = threads.submit(running.client().chat.completions.create, model="tiny", messages=MESSAGES)
            wait_until(lambda: worker.waiting == 1)
            for stream in (False, True):
                with pytest.raises(openai.RateLimitError) as caught:
                    running.client().chat.completions.create(model="tiny", messages=MESSAGES, stream=stream)
                assert caught.value.code == "queue_full"
                assert int(caught.value.response.headers["retry-after"]) >= 1
        assert waiting.result().choices[0].finish_reason in ("stop", "length")


@for_each("stream", [False, True])
def test_a_deadline_ends_a_request(start, slowly, wait_until, stream):
    with start(deadline_seconds=0.3) as running:
        answer = running.http().post("/v1/chat/completions", json={**LONG, "stream": stream})
        if stream:  # it had begun: the error is its last event
            *_, last = [line for line in answer.text.splitlines() if line]
            assert '"code":"deadline_exceeded"' in last
        else:
            assert answer.status_code == 504 and answer.json()["error"]["code"] == "deadline_exceeded"
        wait_until(lambda: running.service.log.reader.count() == 1)
        assert running.service.log.reader.find()[0].error == "deadline_exceeded"


def test_scoring_waits_no_longer_than_the_deadline(start):
    body = {"model": "tiny", "prompt": "a b c", "echo": True, "logprobs": 0, "max_tokens": 0}
    with start(slots=1, deadline_seconds=0.2) as running:
        with blocked(running.service.models.language("tiny")):
            answer = running.http().post("/v1/completions", json=body)
            assert answer.status_code == 504 and answer.json()["error"]["code"] == "deadline_exceeded"
        assert running.http().post("/v1/completions", json=body).status_code == 200


def test_a_failing_model_is_an_error_without_details(start, monkeypatch):
    def explode(model, hidden):
        raise RuntimeError("a secret of the machine room")

    with start() as running:
        monkeypatch.setattr(Transformer, "logits", explode)
        for stream in (False, True):
            with pytest.raises(openai.InternalServerError) as caught:
                running.client().chat.completions.create(model="tiny", messages=MESSAGES, stream=stream)
            assert caught.value.status_code == 500 and "secret" not in caught.value.message
        monkeypatch.undo()
        assert running.client().chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=2)


def test_before_loading_nothing_is_answered_but_health(tiny_folder, tmp_path):
    with serving(Service(tmp_path, ServeConfig(drain_seconds=5.0), {"tiny": str(tiny_folder)})) as running:
        assert running.http().get("/health").status_code == 200
        assert running.http().get("/ready").json() == {"status": "starting", "detail": ""}
        assert running.http().get("/v1/models").json()["data"] == []
        for stream in (False, True):
            with pytest.raises(openai.InternalServerError) as caught:
                running.client().chat.completions.create(model="tiny", messages=MESSAGES, stream=stream)
            assert caught.value.status_code == 503 and caught.value.code == "not_ready"
        running.service.load()
        assert running.http().get("/ready").json()["status"] == "ready"
        assert running.client().chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=2)
