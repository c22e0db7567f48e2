"""How much a client may ask, and what becomes of bodies made to hurt."""

import http.client
import json
import socket

import openai
import pytest
from scripted import scripted

from kit.tables import for_each
from lmworks.serve.api_keys import add
from lmworks.serve.rate_limits import TokenBuckets

MESSAGES = [{"role": "user", "content": "hello"}]
CHAT = {"model": "tiny", "messages": MESSAGES, "max_tokens": 2}


def test_a_bucket_refills_evenly():
    now = 0.0
    buckets = TokenBuckets(60, lambda: now)
    assert [buckets.take("a") for _ in range(60)] == [0.0] * 60
    assert buckets.take("a") == pytest.approx(1.0)
    assert buckets.take("b") == 0.0  # others have their own
    now = 0.5
    assert buckets.take("a") == pytest.approx(0.5)  # being refused costs nothing
    now = 1.0
    assert buckets.take("a") == 0.0 and buckets.take("a") > 0
    now = 1e6
    assert [buckets.take("a") for _ in range(60)] == [0.0] * 60
    assert buckets.take("a") > 0  # a long pause saves no more than a minute's worth


def test_too_many_requests_are_refused_with_the_time_to_come_again(start):
    with start(requests_per_minute=3) as running:
        client = running.client()
        for _ in range(3):
            client.models.list()
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(**CHAT)
        assert caught.value.code == "rate_limit_exceeded"
        assert 1 <= int(caught.value.response.headers["retry-after"]) <= 21
        assert running.http().get("/health").status_code == 200
        assert running.http().get("/log").status_code == 200


def test_questions_of_the_chat_page_count_too(start):
    with start(requests_per_minute=2) as running, scripted(running, ["x"]):
        http = running.http()
        asked = {"question": "hello", "model": "tiny"}
        assert [http.post("/chat", data=asked).status_code for _ in range(3)] == [303, 303, 429]
        assert http.get("/v1/models").status_code == 429
        assert http.get("/").status_code == 200


def test_each_key_has_its_own_limit(start, tmp_path):
    file = tmp_path / "keys.json"
    one, two = add(file, "one"), add(file, "two")
    with start(requests_per_minute=1, keys=str(file)) as running:
        running.client(one).models.list()
        with pytest.raises(openai.RateLimitError):
            running.client(one).models.list()
        running.client(two).models.list()


@pytest.fixture(scope="module")
def small(start):
    with start(max_body_bytes=2000) as running:
        yield running


def test_a_large_body_is_refused_by_its_length(small):
    with pytest.raises(openai.APIStatusError) as caught:
        small.client().chat.completions.create(model="tiny", messages=[{"role": "user", "content": "x" * 3000}])
    assert caught.value.status_code == 413 and caught.value.code == "request_too_large"


def test_a_large_body_in_chunks_is_refused_while_it_comes(small):
    def endless():
        yield b'{"model": "'
        for _ in range(100):
            yield b"x" * 100

    headers = {"Content-Type": "application/json"}
    answer = small.http().post("/v1/chat/completions", content=endless(), headers=headers)
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "request_too_large"


def test_a_declared_length_is_refused_before_the_body_comes(small):
    host, port = small.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: 999999999999999999999999\r\n\r\n"
        )
        assert connection.recv(4096).split(b" ")[1] in (b"413", b"400")


def test_pages_take_no_more_than_the_api(small):
    answer = small.http().post("/log/0/notes", data={"text": "x" * 3000})
    assert answer.status_code == 413


@for_each("headers", [{}, {"Connection": "close"}])
def test_a_schema_that_is_too_large_is_told_to_a_client_that_sends_all_of_it_first(small, headers):
    """A connection that is closed while it still sends loses the answer with it."""
    properties = {f"property_{number}": {"type": "string"} for number in range(100_000)}
    schema = {"type": "json_schema", "json_schema": {"schema": {"type": "object", "properties": properties}}}
    body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "?"}], "response_format": schema})
    connection = http.client.HTTPConnection(small.url.removeprefix("http://"), timeout=60)
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json", **headers})
    answer = connection.getresponse()
    assert answer.status == 413 and json.loads(answer.read())["error"]["code"] == "request_too_large"
    connection.close()
