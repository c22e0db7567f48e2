"""Spans of a log, parsed by OpenTelemetry's own protocol buffers, from files and from a collector on this machine."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from events import event, full_event, interactions, random_events
from google.protobuf.json_format import ParseDict
from hypothesis import given
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from kit.tables import for_each
from lmworks.monitor import FilterError, Log
from lmworks.monitor.otlp import ExportError, export_otlp, to_spans
from lmworks.records import Message

_WAIT = 20.0


def parsed(mapping: dict[str, Any]) -> list[Span]:
    """The spans of a request. OTLP writes ids in hexadecimal where JSON of protocol buffers would have base64."""
    mapping = json.loads(json.dumps(mapping, allow_nan=False))
    for span in _spans(mapping):
        for name in ("traceId", "spanId", "parentSpanId"):
            if name in span:
                span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    request = ParseDict(mapping, ExportTraceServiceRequest())
    for resource in request.resource_spans:
        assert _attributes(resource.resource.attributes)["service.name"] == "lmworks"
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]


def _spans(mapping: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for resource in mapping["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            yield from scope["spans"]


def _attributes(pairs) -> dict[str, Any]:
    values = {pair.key: _plain(pair.value) for pair in pairs}
    assert len(values) == len(pairs)
    return values


def _plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(item) for item in value.array_value.values]
    return getattr(value, kind)


def test_the_span_of_an_interaction() -> None:
    plain = replace(full_event(7), error="", seed=11)
    root, *phases = parsed(to_spans([plain]))
    assert len(root.trace_id) == 16
    assert len(root.span_id) == 8
    assert root.name == "chat assistant"
    assert root.start_time_unix_nano == round(plain.time * 1e9)
    assert root.end_time_unix_nano - root.start_time_unix_nano == 300_000_000
    assert root.status.code == Status.STATUS_CODE_UNSET
    assert _attributes(root.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "lmworks",
        "gen_ai.conversation.id": "c" * 16,
        "gen_ai.request.model": "assistant",
        "gen_ai.request.seed": 11,
        "gen_ai.request.temperature": 0.7,
        "gen_ai.response.id": plain.id,
        "gen_ai.response.model": "f" * 64,
        "gen_ai.response.finish_reasons": ["length"],
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 2,
        "lmworks.prompt": "a" * 64,
        "lmworks.index": "b" * 64,
        "lmworks.parent": "d" * 16,
        "lmworks.experiment": "tone",
        "lmworks.unit": "user-1",
        "lmworks.arm": "B",
        "lmworks.confidence": 0.625,
        "lmworks.abstained": True,
        "lmworks.citations": 0,
        "lmworks.redacted": ["email"],
        "lmworks.lineage.index": "b" * 64,
    }
    assert [phase.name for phase in phases] == ["queued", "search"]
    assert phases[0].start_time_unix_nano == root.start_time_unix_nano
    assert phases[1].start_time_unix_nano == phases[0].end_time_unix_nano
    assert all(phase.parent_span_id == root.span_id and phase.trace_id == root.trace_id for phase in phases)
    assert len({span.span_id for span in (root, *phases)}) == 3
    judged = [_attributes(one.attributes) for one in root.events]
    assert judged == [
        {"gen_ai.evaluation.name": "thumbs", "gen_ai.evaluation.score.label": "down"},
        {"gen_ai.evaluation.name": "note"},
    ]
    assert {one.name for one in root.events} == {"gen_ai.evaluation.result"}


def test_a_failure_and_the_first_token() -> None:
    (root, *_) = parsed(to_spans([event(1, error="DeadlineError")]))
    assert (root.status.code, root.status.message) == (Status.STATUS_CODE_ERROR, "DeadlineError")
    attributes = _attributes(root.attributes)
    assert attributes["error.type"] == "DeadlineError"
    assert attributes["gen_ai.response.time_to_first_chunk"] == 0.75


def test_texts_leave_only_when_asked_for() -> None:
    plain = event(1, messages=(Message("system", "marker-1"), Message("user", "marker-2")), response="marker-3")
    parameters = {"stop": ["marker-5"], "logit_bias": {"marker-6": 1.0}, "top_k": 3}
    plain = replace(plain, rendered_prompt="marker-4", feedback=full_event(1).feedback, parameters=parameters)
    assert "marker" not in json.dumps(to_spans([plain]))
    assert "wrong" not in json.dumps(to_spans([plain]))
    attributes = _attributes(parsed(to_spans([plain], content=True))[0].attributes)
    assert json.loads(attributes["gen_ai.input.messages"]) == [
        {"role": "system", "parts": [{"type": "text", "content": "marker-1"}]},
        {"role": "user", "parts": [{"type": "text", "content": "marker-2"}]},
    ]
    assert json.loads(attributes["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "marker-3"}], "finish_reason": "stop"}
    ]
    assert attributes["lmworks.rendered_prompt"] == "marker-4"
    assert attributes["gen_ai.request.stop_sequences"] == ["marker-5"]
    assert attributes["gen_ai.request.top_k"] == 3
    assert "wrong" in json.dumps(to_spans([plain], content=True))


def test_functions_and_their_calls_have_the_names_of_the_conventions() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    messages = (Message("assistant", "Well.", (call,)), Message("tool", "22", (), "f", "c1"))
    tool = {"type": "function", "function": {"name": "f"}}
    spans = to_spans([event(1, messages=messages, tools=(tool,))], content=True)
    attributes = _attributes(parsed(spans)[0].attributes)
    assert json.loads(attributes["gen_ai.tool.definitions"]) == [tool]
    said, result = json.loads(attributes["gen_ai.input.messages"])
    assert said["parts"] == [
        {"type": "text", "content": "Well."},
        {"type": "tool_call", "id": "c1", "name": "f", "arguments": {"a": 1}},
    ]
    assert result["parts"] == [{"type": "tool_call_response", "id": "c1", "response": "22"}]


def test_an_id_says_that_it_is_the_same_interaction() -> None:
    first, again, other = (parsed(to_spans([event(number)]))[0] for number in (1, 1, 2))
    assert (first.trace_id, first.span_id) == (again.trace_id, again.span_id)
    assert first.trace_id != other.trace_id


@given(interactions)
def test_any_interaction_is_a_valid_request(interaction) -> None:
    assert parsed(to_spans([interaction], content=True))


# ---------------------------------------------------------------------------------------------------------------------
# Files and collectors


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    with Log(tmp_path_factory.mktemp("log") / "log.sqlite") as log:
        for future in [log.record(one) for one in random_events(250, seed=3)]:
            future.result(_WAIT)
        yield log


def _roots(spans: list[Span]) -> list[str]:
    return [_attributes(span.attributes)["gen_ai.response.id"] for span in spans if not span.parent_span_id]


def test_a_file(log, tmp_path) -> None:
    path = tmp_path / "spans.json"
    expected = [row.id for row in log.reader.find("abstained:no", limit=1000)]
    assert export_otlp(log.reader, path, "abstained:no") == len(expected) > 100
    assert _roots(parsed(json.loads(path.read_text()))) == expected
    with pytest.raises(FileExistsError):
        export_otlp(log.reader, str(path))
    assert export_otlp(log.reader, tmp_path / "none.json", "route:nobody") == 0
    assert parsed(json.loads((tmp_path / "none.json").read_text())) == []
    for wrong in ("spans.txt", "ftp://host/spans.json"):
        with pytest.raises(ValueError, match=r"neither a \.json file nor"):
            export_otlp(log.reader, wrong)


@contextmanager
def collector(answer: Callable[[int], tuple[int, dict[str, str], bytes]]) -> Iterator[tuple[str, list[Any]]]:
    """A collector and what it was sent; `answer` gives status, headers and body of the n-th request."""
    received: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, self.headers["Content-Type"], json.loads(body)))
            status, headers, text = answer(len(received))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_collector_gets_everything_in_batches(log) -> None:
    with collector(lambda number: (200, {}, b'{"partialSuccess": {}}')) as (endpoint, received):
        assert export_otlp(log.reader, endpoint) == 250
        assert export_otlp(log.reader, f"{endpoint}/otlp/traces", "id:0000000000000001") == 1
    assert [path for path, _, _ in received] == ["/v1/traces"] * 3 + ["/otlp/traces"]
    assert {kind for _, kind, _ in received} == {"application/json"}
    spans = [span for _, _, body in received[:3] for span in parsed(body)]
    assert _roots(spans) == [row.id for row in log.reader.find(limit=1000)]


@for_each(
    ("answer", "says"),
    [
        ((503, {}, b"busy"), "took 100 interactions, then failed: HTTP Error 503"),
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), "took 100 interactions, then failed: HTTP Error 302"),
        ((200, {}, b"<html>"), "took 100 interactions, then failed"),
        (
            (200, {}, b'{"partialSuccess": {"rejectedSpans": "7", "errorMessage": "too old"}}'),
            r"rejected spans: 7 \(too old\)",
        ),
    ],
)
def test_what_a_collector_does_not_take_is_an_error(log, answer, says) -> None:
    with (
        collector(lambda number: (200, {}, b"") if number == 1 else answer) as (endpoint, received),
        pytest.raises(ExportError, match=says),
    ):
        export_otlp(log.reader, endpoint)
    assert len(received) == 2


def test_nobody_there_and_a_filter_that_is_none(log) -> None:
    with pytest.raises(ExportError, match="took 0 interactions"):
        export_otlp(log.reader, "http://127.0.0.1:9", timeout=5.0)
    with pytest.raises(FilterError):
        export_otlp(log.reader, "http://127.0.0.1:9", "nonsense:1")
