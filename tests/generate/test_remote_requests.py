"""What an endpoint is sent of a request, and what is refused because it could not be sent."""

import json

import pytest

from kit.tables import for_each
from lmworks.generate.constraint import Choice, Grammar, JsonSchema, Quote, Regex
from lmworks.generate.protocol import Request, SamplingParameters, UnsupportedError
from lmworks.generate.remote_engine import EXTENSIONS, request_body
from lmworks.records import Message


def body(request: Request, extensions=EXTENSIONS) -> dict:
    return request_body(request, "model", extensions, False)[1]


def sampled(**sampling) -> Request:
    return Request((1, 2), sampling=SamplingParameters(seed=1, **sampling))


@for_each(
    ("sampling", "sent"),
    [
        ({"min_p": 0.1}, {"min_p": 0.1}),
        ({"typical_p": 0.9}, {"typical_p": 0.9}),
        ({"top_k": 3, "ignore_eos": True}, {"top_k": 3, "ignore_eos": True}),
        ({"constraint": JsonSchema('{"type": "null"}')}, {"structured_outputs": {"json": {"type": "null"}}}),
        (
            {"constraint": JsonSchema("{}", compact=False)},
            {"structured_outputs": {"json": {}, "disable_any_whitespace": False}},
        ),
        ({"constraint": Regex("a+")}, {"structured_outputs": {"regex": "a+"}}),
        ({"constraint": Choice(("a", "b"))}, {"structured_outputs": {"choice": ["a", "b"]}}),
        ({"constraint": Grammar('start: "a"')}, {"structured_outputs": {"grammar": 'start: "a"'}}),
    ],
)
def test_what_goes_beyond_openai_is_sent_where_it_is_understood(sampling, sent):
    told = body(sampled(**sampling))
    assert {name: told[name] for name in sent} == sent
    assert told.keys() - sent.keys() == body(sampled()).keys()
    with pytest.raises(UnsupportedError, match=f"{next(iter(sent))}.*extensions"):
        body(sampled(**sampling), extensions=())


def test_who_asks_and_how_urgently_is_sent():
    told = body(Request((1,), client="ada", priority=2))
    assert (told["user"], told["priority"]) == ("ada", 2)


@for_each(
    ("fields", "word"),
    [
        ({"tools": ({"type": "function"},), "prompt_ids": (), "messages": (Message("user", "x"),)}, "tools"),
        ({"adapter": "lora"}, "adapter"),
        ({"deadline": 1.0}, "deadline"),
        ({"sampling": SamplingParameters(banned_tokens=(1,))}, "banned_tokens"),
        ({"sampling": SamplingParameters(forced_tokens=(1,))}, "forced_tokens"),
        ({"sampling": SamplingParameters(constraint=Quote(("a",)))}, "Quote"),
    ],
)
def test_what_cannot_be_sent_is_refused(fields, word):
    with pytest.raises(UnsupportedError, match=word):
        body(Request(**{"prompt_ids": (1,), **fields}))


def test_calls_are_sent_in_openais_form():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": "é"}}}
    messages = (Message("assistant", "", (call,)), Message("tool", "1", (), "f", "c"))
    said, result = body(Request(messages=messages))["messages"]
    assert json.loads(said["tool_calls"][0]["function"]["arguments"]) == {"a": "é"}
    assert result == {"role": "tool", "content": "1", "name": "f", "tool_call_id": "c"}
