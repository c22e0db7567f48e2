"""Clients that ask and do not read hold no slot, no deadline and no shutdown, and what they asked is logged."""

import json
import socket
import time
from contextlib import closing, suppress

import pytest

from kit.tables import for_each
from lmworks.monitor.log import Reader

BODY = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "Hello"}],
    "stream": True,
    "max_tokens": 450,
    "ignore_eos": True,
    "logprobs": True,
    "top_logprobs": 20,
    "n": 8,  # so that the answer is longer than all buffers between server and client
}


def address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def stalled(url: str) -> socket.socket:
    """A connection that has sent its request and whose receive buffer is small."""
    host, port = address(url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((host, port))
    content = json.dumps(BODY).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return connection


def test_the_deadline_holds_for_who_does_not_read(start, wait_until):
    with start(deadline_seconds=1.0) as running, closing(stalled(running.url)):
        wait_until(lambda: running.service.log.reader.count() == BODY["n"])
        wait_until(lambda: running.service._active == 0)
        assert running.service.models.language("tiny").running == 0


def test_a_shutdown_does_not_wait_for_who_does_not_read_and_loses_nothing(start, wait_until):
    with start(deadline_seconds=60.0, drain_seconds=1.0) as running:
        connection = stalled(running.url)
        wait_until(lambda: running.service.models.language("tiny").running == BODY["n"])
        log = running.service.log.location
        started = time.monotonic()
    assert time.monotonic() - started < 30  # drain_seconds is 1 here; without an end it would be the deadline's 60
    connection.close()
    with Reader.open(log) as reader:
        rows = reader.find()
    assert len(rows) == BODY["n"]
    assert {(row.finish_reason, row.error) for row in rows} <= {("cancelled", "server_stopped"), ("length", "")}


def test_half_a_request_holds_nobody_up(start):
    with start() as running, running.http() as http:
        silent, half = stalled(running.url), socket.create_connection(address(running.url))
        half.sendall(b"GET / HTTP/1.1\r\nHost: 127")
        assert http.get("/health").status_code == http.get("/v1/models").status_code == 200
        silent.close()
        half.close()


GET = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POST = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def impatient(start):
    with start(receive_seconds=0.5) as running:
        yield running


@for_each("begun", [b"GET / HTTP/1.1\r\n", POST + b"Content-Length: 900\r\n\r\n"])
@for_each("drip", [b"", b"a"])
def test_a_request_that_never_ends_is_ended(impatient, begun, drip):
    with socket.create_connection(address(impatient.url), timeout=0.1) as client:
        client.sendall(begun)
        answer, until = b"", time.monotonic() + 30
        with suppress(ConnectionError):  # for what is sent after the end
            while time.monotonic() < until:
                with suppress(TimeoutError):
                    client.sendall(drip)
                    received = client.recv(4096)
                    answer += received
                    if not received:
                        break
        assert answer.startswith(b"HTTP/1.1 408 ") and time.monotonic() < until


def test_a_request_that_never_ends_is_ended_behind_another_one(impatient):
    with socket.create_connection(address(impatient.url), timeout=30) as client:
        client.sendall(GET + POST + b"Content-Length: 900\r\n\r\n{")
        assert b"".join(iter(lambda: client.recv(4096), b"")).startswith(b"HTTP/1.1 200 ")


def test_a_slow_upload_and_a_long_answer_take_their_time(start):
    body = b'{"model": "tiny", "prompt": "a", "max_tokens": 400, "ignore_eos": true, "stream": true}'
    with start(receive_seconds=0.2) as running, socket.create_connection(address(running.url), timeout=30) as client:
        client.sendall(POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % (len(body) + 2000))
        for piece in (*[b" " * 200] * 10, body):
            time.sleep(0.1)
            client.sendall(piece)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 200 ") and b"[DONE]" in answer
