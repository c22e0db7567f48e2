"""The process that serves: what it refuses to start with, loading, and its end, with real signals."""

import contextlib
import json
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from kit.tables import for_each
from lmworks.generate.engine import Engine
from lmworks.model.checkpoint import assemble
from lmworks.monitor.log import Reader
from lmworks.serve.config import ServeConfig
from lmworks.serve.listener import check_exposure, is_loopback, listen
from lmworks.serve.server import run
from lmworks.serve.service import Service

PROGRAM = """
import sys, time
from pathlib import Path
from lmworks.generate.engine import Engine
from lmworks.serve.config import ServeConfig
from lmworks.serve.server import run
step = Engine.step
Engine.step = lambda engine: (time.sleep(0.01), step(engine))[1]
config = ServeConfig(port=0, drain_seconds=float(sys.argv[3]))
run(Path(sys.argv[1]), config, {"tiny": sys.argv[2]}, lambda text: print(text, flush=True))
"""
LONG = {"model": "tiny", "prompt": "a", "max_tokens": 200, "ignore_eos": True, "stream": True}


@contextlib.contextmanager
def process(folder, tiny_folder, drain_seconds):
    """The process and the URL that it announced."""
    arguments = [sys.executable, "-c", PROGRAM, str(folder), str(tiny_folder), str(drain_seconds)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            first, _, second = (running.stdout.readline() for _ in range(3))  # between them, the context
            assert first.startswith("Loading") and second.startswith("Ready at http://127.0.0.1:"), (first, second)
            yield running, re.search(r"http://[\d.:]+", second)[0]
        finally:
            running.kill()


def stream(url, lines):
    """Read a long stream in a thread; its lines, and None at the end, go into a queue."""

    def read():
        with (
            contextlib.suppress(httpx.HTTPError),
            httpx.stream("POST", f"{url}/v1/completions", json=LONG, timeout=60) as r,
        ):
            for line in r.iter_lines():
                if line:
                    lines.put(line)
        lines.put(None)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    assert lines.get(timeout=60).startswith("data: ")


def rest(lines):
    found = []
    while (line := lines.get(timeout=60)) is not None:
        found.append(line)
    return found


def test_a_first_signal_refuses_what_is_new_and_a_second_ends_what_runs(tmp_path, tiny_folder):
    with process(tmp_path, tiny_folder, 600) as (running, url):
        lines = queue.Queue()
        stream(url, lines)
        running.send_signal(signal.SIGTERM)
        while httpx.get(f"{url}/ready").status_code != 503:
            pass
        refused = httpx.post(f"{url}/v1/completions", json={**LONG, "stream": False})
        assert refused.status_code == 503 and refused.json()["error"]["code"] == "shutting_down"
        assert httpx.get(f"{url}/health").status_code == 200
        running.send_signal(signal.SIGINT)
        last = json.loads(rest(lines)[-1].removeprefix("data: "))
        assert last["error"]["code"] == "shutting_down"
        assert running.wait(timeout=60) == 0
    (row,) = Reader.open(tmp_path / "log.sqlite").find()
    assert row.finish_reason == "cancelled" and row.output_tokens < 200


@for_each(("drain_seconds", "whole"), [(60, True), (0.1, False)])
def test_a_shutdown_lets_finish_what_runs_in_time_cuts_the_rest_and_logs_both(start, monkeypatch, drain_seconds, whole):
    step = Engine.step
    monkeypatch.setattr(Engine, "step", lambda engine: (time.sleep(0.005), step(engine))[1])
    lines = queue.Queue()
    with start(drain_seconds=drain_seconds) as running:
        stream(running.url, lines)
        running.server.stop()
        last = rest(lines)[-1]
        log = running.service.log.location
    (row,) = Reader.open(log).find()
    if whole:
        assert last == "data: [DONE]" and (row.finish_reason, row.output_tokens) == ("length", 200)
    else:
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "shutting_down"
        assert row.finish_reason == "cancelled" and row.output_tokens < 200


@pytest.fixture
def unloadable(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder without weights, which only loading it finds out."""
    folder = tmp_path_factory.mktemp("unloadable")
    shutil.copy(tiny_folder / "config.json", folder)
    return str(folder)


def test_a_taken_port_and_missing_keys_are_told_before_anything_is_loaded(tmp_path, unloadable):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="--port"):
            run(tmp_path, ServeConfig(port=port), {"tiny": unloadable})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError, match="lmworks keys add"):
        run(tmp_path, ServeConfig(port=0, keys=str(tmp_path / "keys.json")), {"tiny": unloadable})


@for_each("host", ["127.0.0.1", "::1"])
def test_connections_do_not_hold_back_small_packets(host):
    with listen(ServeConfig(host=host, port=0)) as listener, socket.create_connection(listener.getsockname()[:2]):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_model_that_cannot_be_loaded_ends_the_process(tmp_path, unloadable):
    told = []
    with pytest.raises((FileNotFoundError, ValueError), match="unloadable"):
        run(tmp_path, ServeConfig(port=0), {"tiny": unloadable}, told.append)
    assert [text.split(";")[0].split()[0] for text in told] == ["Loading"]


@for_each(
    ("host", "own"),
    [
        *(("127.0.0.1", True), ("127.8.0.1", True), ("localhost", True), ("::1", True), ("::ffff:127.0.0.1", True)),
        *(("0.0.0.0", False), ("::", False), ("192.168.0.7", False), ("::ffff:192.168.0.7", False)),
        ("models.example", False),
    ],
)
def test_this_machine_needs_no_keys_and_others_are_let_in_with_them_only(host, own):
    assert is_loopback(host) == own or host == "localhost"
    check_exposure(ServeConfig(host=host, keys="keys.json"))
    try:
        check_exposure(ServeConfig(host=host))
    except ValueError as error:
        assert not own and "lmworks keys add" in str(error)
    else:
        assert own


@for_each(
    ("setting", "named"),
    [
        ({"slots": 1025}, "slots"),
        ({"context_length": 15}, "context_length"),
        ({"allowed_hosts": ("https://models.example.org/v1",)}, "models.example.org"),
        ({"allowed_hosts": ("models.example.org:8000",)}, "models.example.org"),
        ({"allowed_hosts": ("[fd00::7]:80",)}, "fd00::7"),
        ({"allowed_hosts": ("",)}, "allowed_hosts"),
        ({"allowed_hosts": ("[::1",)}, "allowed_hosts"),
    ],
)
def test_settings_that_cannot_work_are_refused(setting, named):
    hosts = ("Models.Example", "192.168.0.7", "fd00::7", "under_score")
    assert ServeConfig(slots=1024, context_length=16, allowed_hosts=hosts).allowed_hosts == hosts  # at their bounds
    with pytest.raises(ValueError, match=named):
        ServeConfig(**setting)


@pytest.mark.parametrize(("free", "served"), [(1 << 40, 4096), (2 * 3000 * 2 * 2 * 2 * 8 * 4, 3000)])
def test_a_model_is_served_with_the_context_that_it_has_within_memory(tiny, serve, tmp_path, monkeypatch, free, served):
    """Of 2 layers with keys and values of 2 heads of 8 float32 numbers, a half of what is free holds 3,000 tokens."""
    monkeypatch.setattr("lmworks.serve.served_models.free_memory", lambda device: free)
    config = replace(tiny.config, context_length=4096)
    checkpoint = assemble(config, tiny.model.state_dict(), tiny.tokenizer, source="long")
    service = Service(tmp_path, ServeConfig(slots=2), {"long": str(checkpoint.save(tmp_path / "long"))})
    service.load()
    assert [f"{served:,}" in line for line in service.models.contexts()] == [True]
    with serve(service) as running, running.http() as client:
        assert client.get("/v1/models/long").json()["context_length"] == served
        for length, status in ((served - 2, 200), (served, 400)):
            body = {"model": "long", "prompt": [5] * length, "max_tokens": 2}
            assert client.post("/v1/completions", json=body).status_code == status
