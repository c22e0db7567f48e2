"""The remote engine against a small server in this process that speaks the format and records what it was asked."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from lmworks.generate.protocol import Request, SamplingParameters, UnsupportedError
from lmworks.generate.remote_engine import RemoteEngine, RemoteError
from lmworks.records import Message

_WORDS = ["Grüß", " dich", ", 世", "界!"]
_LOGPROBS = [-0.5, -1.5, -0.25, -2.0]
_OTHERS = [{"Hallo": -3.0, "Grüß": -0.5}, {" dich": -1.5, " Gott": -0.75}, {", 世": -0.25, "!": -4.0}, {"界!": -2.0}]
_USAGE = {"prompt_tokens": 7, "completion_tokens": 4}


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.calls.append((self.path, body, self.headers.get("Authorization")))
        if body["model"] == "absent":
            self._send(404, b'{"error": "no such model"}')
        elif body["model"] == "busy" and len(self.server.calls) < 3:
            self._send(429 if len(self.server.calls) == 1 else 503, b"later")
        elif body["model"] == "broken":
            self._send(200, b"<html>")
        elif body.get("stream"):
            events = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in _events(body)]
            self._send(200, b"".join(events) + b"data: [DONE]\n\n")
        else:
            self._send(200, json.dumps(_answer(self.path, body)).encode())

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


class _Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.calls: list[tuple[str, dict, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


def _answer(path: str, body: dict) -> dict:
    if path == "/v1/embeddings":
        rows = [{"index": n, "embedding": [3.0 * len(text), 4.0 * len(text)]} for n, text in enumerate(body["input"])]
        return {"data": rows[::-1]}
    if path == "/v1/completions":
        values = [-0.1 * n for n in range(1, 4)]  # one too few for the usage
        if body.get("echo"):
            values = [None, *(-0.1 * n for n in range(1, len(body["prompt"]) + 1))]
        logprobs = {"token_logprobs": values} if "logprobs" in body else None
        if body["model"] == "texts":
            logprobs = {"tokens": _WORDS, "token_logprobs": _LOGPROBS, "top_logprobs": _OTHERS}
        return {"choices": [{"text": "text", "finish_reason": "length", "logprobs": logprobs}], "usage": _USAGE}
    logprobs = {"content": _content(body)} if body.get("logprobs") else None
    # Answers with the last message, so that a mix-up of concurrent requests shows.
    choice = {"message": {"content": body["messages"][-1]["content"]}, "finish_reason": "stop", "logprobs": logprobs}
    return {"choices": [choice], "usage": _USAGE}


def _content(body: dict) -> list[dict]:
    """What a chat answer says about its tokens: the model "mute" gives numbers alone, the others the texts too."""
    if body["model"] == "mute":
        return [{"logprob": value} for value in _LOGPROBS]
    rows = [{"token": word, "logprob": value, "bytes": None} for word, value in zip(_WORDS, _LOGPROBS, strict=True)]
    if "top_logprobs" in body and body["model"] != "few":
        for row, others in zip(rows, _OTHERS, strict=True):
            row["top_logprobs"] = [{"token": text, "logprob": value} for text, value in others.items()]
    return rows


def _events(body: dict) -> Iterator[dict]:
    yield {"choices": [{"delta": {"role": "assistant"}, "finish_reason": None}]}
    for word, row in zip(_WORDS, _content(body), strict=True):
        yield {"choices": [{"delta": {"content": word}, "finish_reason": None, "logprobs": {"content": [row]}}]}
    yield {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    yield {"choices": [], "usage": _USAGE}


@pytest.fixture
def server() -> Iterator[_Server]:
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _chat(text: str, **sampling: Any) -> Request:
    return Request(messages=(Message("user", text),), sampling=SamplingParameters(**sampling))


def test_generate_sends_the_request_and_keeps_the_order(server: _Server) -> None:
    engine = RemoteEngine(server.url, "model", api_key="secret", log_probabilities=True)
    requests = [_chat(f"question {n}", max_tokens=9, temperature=0.5, seed=n, stop=("\n",)) for n in range(20)]
    completions = engine.generate(requests)
    assert [completion.text for completion in completions] == [f"question {n}" for n in range(20)]
    assert completions[3].log_probabilities == tuple(_LOGPROBS)
    assert completions[3].ids is None and completions[3].sampled_log_probabilities is None
    assert (completions[3].seed, completions[3].finish_reason, completions[3].prompt_tokens) == (3, "stop", 7)
    path, body, key = next(call for call in server.calls if call[1]["seed"] == 3)
    assert (path, key) == ("/v1/chat/completions", "Bearer secret")
    assert body["messages"] == [{"role": "user", "content": "question 3"}]
    assert (body["max_tokens"], body["temperature"], body["top_p"], body["stop"]) == (9, 0.5, 1.0, ["\n"])
    assert "secret" not in repr(engine)


def test_stream_joins_to_the_completion(server: _Server) -> None:
    deltas = list(RemoteEngine(server.url, "model", log_probabilities=True).stream(_chat("hello")))
    completion = deltas[-1].completion
    assert completion is not None and all(delta.completion is None for delta in deltas[:-1])
    assert "".join(delta.text for delta in deltas) == completion.text == "Grüß dich, 世界!"
    assert completion.log_probabilities == tuple(_LOGPROBS) and completion.completion_tokens == 4
    assert server.calls[0][1]["stream"] is True


_ALTERNATIVES = [("Grüß", -0.5), (" Gott", -0.75), (", 世", -0.25), ("界!", -2.0)]  # the most probable of each place


def test_tokens_and_alternatives_of_a_chat_answer_whole_and_streamed(server: _Server) -> None:
    engine = RemoteEngine(server.url, "model")
    request = _chat("hello", alternatives=2)
    deltas = list(engine.stream(request))
    whole, streamed = engine.generate([request])[0], deltas[-1].completion
    assert all(body["logprobs"] is True and body["top_logprobs"] == 2 for _, body, _ in server.calls)
    assert streamed is not None and whole.tokens is not None
    assert whole.tokens == streamed.tokens == sum((delta.tokens for delta in deltas), ())
    assert [token.text for token in whole.tokens] == _WORDS
    assert tuple(token.log_probability for token in whole.tokens) == whole.log_probabilities == tuple(_LOGPROBS)
    assert [(token.id, token.alternatives[0]) for token in whole.tokens] == [
        (None, (None, text, value)) for text, value in _ALTERNATIVES
    ]
    assert whole.tokens[0].alternatives == ((None, "Grüß", -0.5), (None, "Hallo", -3.0))


def test_tokens_and_alternatives_of_a_completions_answer(server: _Server) -> None:
    request = Request((5, 6), sampling=SamplingParameters(alternatives=1))
    (completion,) = RemoteEngine(server.url, "texts").generate([request])
    assert server.calls[0][1]["logprobs"] == 1
    assert completion.tokens is not None
    assert [(token.text, token.alternatives) for token in completion.tokens] == [
        (word, ((None, text, value),)) for word, (text, value) in zip(_WORDS, _ALTERNATIVES, strict=True)
    ]


def test_tokens_that_are_not_told_are_none(server: _Server) -> None:
    assert RemoteEngine(server.url, "model").generate([_chat("hello")])[0].tokens is None
    (completion,) = RemoteEngine(server.url, "mute", log_probabilities=True).generate([_chat("hello")])
    assert completion.tokens is None and completion.log_probabilities == tuple(_LOGPROBS)
    with pytest.raises(RemoteError, match="did not return the most probable tokens"):
        RemoteEngine(server.url, "few").generate([_chat("hello", alternatives=2)])


def test_penalties_and_bias_go_by_openais_names_and_only_when_set(server: _Server) -> None:
    engine = RemoteEngine(server.url, "model")
    set_ = {"frequency_penalty": 0.5, "presence_penalty": -1.0, "logit_bias": {17: -100.0, 3: 2.5}}
    engine.generate([_chat("hello", **set_)])
    engine.generate([_chat("hello")])
    bodies = [body for _, body, _ in server.calls]
    assert {name: bodies[0][name] for name in set_} == {**set_, "logit_bias": {"17": -100.0, "3": 2.5}}
    assert not {*set_, "logprobs", "top_logprobs"} & bodies[1].keys()


def test_prompt_ids_go_to_the_completions_endpoint(server: _Server) -> None:
    completion = RemoteEngine(server.url, "model").generate([Request((5, 6, 7))])[0]
    assert server.calls[0][0] == "/v1/completions" and server.calls[0][1]["prompt"] == [5, 6, 7]
    assert (completion.text, completion.finish_reason, completion.log_probabilities) == ("text", "length", None)


def test_embed_orders_normalises_and_prefixes(server: _Server) -> None:
    vectors = RemoteEngine(server.url, "model", prefixes={"query": "query: "}).embed(["a", "bcd"], "query")
    assert vectors.dtype == np.float32
    assert vectors == pytest.approx(np.array([[0.6, 0.8], [0.6, 0.8]]))
    assert server.calls[0][1]["input"] == ["query: a", "query: bcd"]


def test_score_reads_the_prompts_log_probabilities_where_the_endpoint_has_them(server: _Server) -> None:
    engine = RemoteEngine(server.url, "model", prompt_log_probabilities=True)
    scores = engine.score([[1, 2, 3], [1]], [[4, 5], [6]])
    assert scores[0].log_probabilities == pytest.approx((-0.3, -0.4))
    assert scores[1].log_probabilities == pytest.approx((-0.1,))
    with pytest.raises(UnsupportedError, match="context"):
        engine.score([[]], [[1]])


def test_what_it_cannot_do_is_in_the_capabilities_and_raises(server: _Server) -> None:
    engine = RemoteEngine(server.url, "model")
    assert engine.capabilities.generate and not engine.capabilities.score
    assert set(engine.capabilities.missing) == {
        "score", "token_ids", "log_probabilities", "sampled_log_probabilities", "score_alternatives",
        "adapters",
    }  # fmt: skip
    with pytest.raises(UnsupportedError, match=r"cannot score.*prompt_log_probabilities=True"):
        engine.score([[1]], [[1]])
    scoring = RemoteEngine(server.url, "model", prompt_log_probabilities=True)
    with pytest.raises(UnsupportedError, match="cannot score_alternatives"):
        scoring.score([[1]], [[1]], alternatives=2)
    with pytest.raises(UnsupportedError, match=r"cannot adapters.*as `model`"):
        scoring.score([[1]], [[1]], adapter="law")
    with pytest.raises(UnsupportedError, match=r"top_k is no part.*extensions=\('top_k',\)"):
        engine.generate([_chat("hello", top_k=5)])
    assert not server.calls, "refused before anything was sent"
    RemoteEngine(server.url, "model", extensions=("top_k",)).generate([_chat("hello", top_k=5)])
    assert server.calls[0][1]["top_k"] == 5


def test_errors_say_what_the_endpoint_said(server: _Server) -> None:
    with pytest.raises(RemoteError, match=r"404.*no such model"):
        RemoteEngine(server.url, "absent").generate([_chat("hello")])
    with pytest.raises(RemoteError, match="did not answer in JSON"):
        RemoteEngine(server.url, "broken").generate([_chat("hello")])
    with pytest.raises(RemoteError, match="3 log-probabilities for 4 tokens"):
        RemoteEngine(server.url, "model", log_probabilities=True).generate([Request((1,))])


def test_a_busy_endpoint_is_asked_again_and_no_other(server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("lmworks.generate.remote_engine.time.sleep", waits.append)
    assert RemoteEngine(server.url, "busy").generate([_chat("hello")])[0].text == "hello"
    assert len(server.calls) == 3 and 0 < waits[0] < waits[1]
    server.calls.clear()
    with pytest.raises(RemoteError, match="429"):
        RemoteEngine(server.url, "busy", retries=0).generate([_chat("hello")])
    with pytest.raises(RemoteError, match="404"):
        RemoteEngine(server.url, "absent").generate([_chat("hello")])
    assert len(server.calls) == 2


def test_nobody_there() -> None:
    with pytest.raises(RemoteError, match="is it running"):
        RemoteEngine("http://127.0.0.1:9/v1", "model").generate([_chat("hello")])
