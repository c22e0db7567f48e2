"""Every answer and every event against the official client's own types, which the client itself never checks."""

import json

from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseItemList, ResponseStreamEvent
from pydantic import TypeAdapter
from scripted import scripted
from weather import CALL, FUNCTION, PARAMETERS

from kit.tables import for_each

PIECES = ["Well.", "\n" + CALL]
MESSAGES = [{"role": "user", "content": "hello"}]


def ask(running, path: str, body: dict, stream: bool = False):
    """The answer, or the events of a stream."""
    extra = {"stream_options": {"include_usage": True}} if stream and path != "responses" else {}
    answer = running.http().post(f"/v1/{path}", json={"model": "tiny", **body, "stream": stream, **extra})
    assert answer.status_code == 200, answer.text
    if not stream:
        return answer.json()
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def check(kind, *values) -> None:
    adapter = TypeAdapter(kind)
    for value in values:
        adapter.validate_python(value)


@for_each(
    "options",
    [
        {},
        {"logprobs": True, "top_logprobs": 2, "n": 2},
        {"tools": [{"type": "function", "function": FUNCTION}], "logprobs": True},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "place", "schema": PARAMETERS}}},
    ],
)
def test_chats(served, options):
    body = {"messages": MESSAGES, **options}
    with scripted(served, PIECES):
        check(ChatCompletion, ask(served, "chat/completions", body))
        chunks = ask(served, "chat/completions", body, stream=True)
    check(ChatCompletionChunk, *chunks)
    assert len(chunks) > 3
    check(ChatCompletion, ask(served, "chat/completions", {"max_tokens": 9, **body}))


@for_each(
    "options",
    [
        {"instructions": "Be brief.", "metadata": {"unit": "someone"}, "user": "ada"},
        {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
        {"tools": [{"type": "function", **FUNCTION}], "tool_choice": {"type": "function", "name": "get_weather"}},
        {"text": {"format": {"type": "json_schema", "name": "place", "schema": PARAMETERS}}},
    ],
)
def test_responses(served, options):
    body = {"input": MESSAGES, **options}
    with scripted(served, PIECES):
        first = ask(served, "responses", body)
        events = ask(served, "responses", {**body, "previous_response_id": first["id"]}, stream=True)
    check(Response, first, events[-1]["response"])
    check(ResponseStreamEvent, *events)
    assert {"response.created", "response.output_text.delta", "response.completed"} <= {e["type"] for e in events}
    identifier = events[-1]["response"]["id"]
    check(Response, served.http().get(f"/v1/responses/{identifier}").json())
    check(ResponseItemList, served.http().get(f"/v1/responses/{identifier}/input_items").json())
    check(Response, ask(served, "responses", {"max_output_tokens": 9, **body}))


def test_a_stream_that_fails(served):
    with scripted(served, ["Well."], reason="cancelled"):
        *events, last = ask(served, "responses", {"input": "hello"}, stream=True)
    check(ResponseStreamEvent, *events, last)
    assert last["type"] == "error" and last["code"] == last["error"]["code"] == "shutting_down"
    assert [event["sequence_number"] for event in [*events, last]] == list(range(len(events) + 1))


def test_completions_and_models(served):
    body = {"prompt": ["hello", "you"], "logprobs": 2}
    # In a stream, OpenAI's `finish_reason` is null until a text ends, which its type leaves out.
    events = ask(served, "completions", body, stream=True)
    ended = [event for event in events if all(choice["finish_reason"] for choice in event["choices"])]
    check(Completion, ask(served, "completions", body), *ended)
    assert len(ended) == 3
    check(Model, *served.http().get("/v1/models").json()["data"])
