"""The Responses API through the official client: items, conversations that go on, events, and what is parsed."""

import json
from dataclasses import replace

import openai
import pydantic
import pytest
from scripted import scripted
from weather import CALL, FUNCTION

from lmworks.generate.constraint import FunctionCalls
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.records import Message

WEATHER = {"type": "function", **FUNCTION}
CALLS = ["Let me ", "see.\n<tool", CALL[5:20], CALL[20:50], CALL[50:60], CALL[60:], "\n" + CALL]


def respond(running, given="hello", **options):
    return running.client().responses.create(model="tiny", input=given, **options)


def logged(running, response) -> dict:
    return running.http().get(f"/api/interactions/{response.id.removeprefix('resp_')}").json()


def test_an_input_is_a_message_of_the_user(served, tiny):
    response = respond(served, instructions="Be brief.", temperature=0, max_output_tokens=12)
    messages = (Message("system", "Be brief."), Message("user", "hello"))
    (wanted,) = Engine(tiny).generate([Request(messages=messages, sampling=SamplingParameters(max_tokens=12))])
    assert response.output_text == wanted.text
    assert (response.usage.input_tokens, response.usage.output_tokens) == (
        wanted.prompt_tokens,
        wanted.completion_tokens,
    )
    assert response.status == ("incomplete" if wanted.finish_reason == "length" else "completed")
    assert (response.instructions, response.max_output_tokens, response.error) == ("Be brief.", 12, None)


def test_settings_reach_the_engine_and_are_repeated(served):
    metadata = {"conversation": "talk", "unit": "someone"}
    beyond = {"seed": 5, "top_k": 7, "min_p": 0.1, "typical_p": 0.9, "priority": 3}
    with scripted(served, ["x"]) as requests:
        response = respond(served, temperature=0.5, top_p=0.8, metadata=metadata, user="ada", extra_body=beyond)
    sampling = requests[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed, sampling.top_k) == (0.5, 0.8, 5, 7)
    assert (sampling.min_p, sampling.typical_p) == (0.1, 0.9)
    assert (requests[0].priority, requests[0].client) == (3, "ada")
    assert (response.temperature, response.top_p, response.metadata) == (0.5, 0.8, metadata)
    assert logged(served, response)["conversation"] == "talk"


def test_items_become_a_conversation(served):
    items = [
        {"role": "developer", "content": "Be kind."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Well."}]},
        {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": '{"place": "Graz"}'},
        {"type": "function_call", "call_id": "c2", "name": "get_weather", "arguments": '{"place": "Wien"}'},
        {"type": "function_call_output", "call_id": "c2", "output": "25"},
        {"type": "function_call_output", "call_id": "c1", "output": "22"},
    ]
    with scripted(served, ["x"]) as requests:
        respond(served, items, tools=[WEATHER])
    system, user, answer, *results = requests[0].messages
    assert (system, user) == (Message("system", "Be kind."), Message("user", "Weather?"))
    assert answer.content == "Well." and [call["id"] for call in answer.tool_calls] == ["c1", "c2"]
    assert results == [
        Message("tool", "25", (), "get_weather", "c2"),
        Message("tool", "22", (), "get_weather", "c1"),
    ]


def test_calls_and_words_are_items(served):
    with scripted(served, CALLS) as requests:
        response = respond(served, tools=[WEATHER], tool_choice={"type": "function", "name": "get_weather"})
    constraint = requests[0].sampling.constraint
    assert isinstance(constraint, FunctionCalls) and constraint.required
    message, *calls = response.output
    assert (message.type, response.output_text) == ("message", "Let me see.")
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [("get_weather", {"place": "Graz"})] * 2
    assert calls[0].call_id != calls[1].call_id and response.tool_choice.name == "get_weather"


def test_events_tell_the_response(served):
    with scripted(served, CALLS):
        events = list(respond(served, tools=[WEATHER], stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds[-1] == "completed" and kinds.count("output_item.done") == 3
    final = events[-1].response
    done = [event.item for event in events if event.type == "response.output_item.done"]
    assert [item.model_dump() for item in done] == [item.model_dump() for item in final.output]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == final.output_text == "Let me see."
    for index in (1, 2):
        own = [event for event in events if getattr(event, "output_index", None) == index]
        assert own[0].type == "response.output_item.added" and own[0].item.arguments == ""
        pieces = [event.delta for event in own if event.type == "response.function_call_arguments.delta"]
        assert "".join(pieces) == own[-1].item.arguments == '{"place": "Graz"}'
        assert own[-2].type == "response.function_call_arguments.done" and own[-2].arguments == own[-1].item.arguments
    assert events[0].response.status == "in_progress" and events[0].response.output == []


def test_an_empty_answer_is_an_empty_text(served):
    with scripted(served, []):
        events = list(respond(served, stream=True))
        whole = respond(served)
    assert events[-1].response.output_text == whole.output_text == ""
    assert [item.type for item in events[-1].response.output] == ["message"]


class Place(pydantic.BaseModel):
    name: str
    people: int


def test_an_answer_is_parsed_into_a_model(served):
    with scripted(served, ['{"name": "Graz", ', '"people": 300000}']) as requests:
        response = served.client().responses.parse(model="tiny", input="x", text_format=Place)
        assert response.output_parsed == Place(name="Graz", people=300000)
        with served.client().responses.stream(model="tiny", input="x", text_format=Place) as stream:
            assert stream.get_final_response().output_parsed == response.output_parsed
    assert json.loads(requests[0].sampling.constraint.schema)["required"] == ["name", "people"]
    assert response.text.format.name == "Place"


def test_a_response_is_gone_on_from(served):
    with scripted(served, CALLS):
        first = respond(served, instructions="Be brief.", tools=[WEATHER], metadata={"conversation": "talk"})
    results = [
        {"type": "function_call_output", "call_id": item.call_id, "output": str(20 + number)}
        for number, item in enumerate(first.output[1:])
    ]
    with scripted(served, ["It is 20 degrees."]) as requests:
        second = respond(served, results, previous_response_id=first.id, instructions="Be polite.", tools=[WEATHER])
        third = respond(served, "Thanks.", previous_response_id=second.id)
    system, user, answer, *told = requests[0].messages
    assert (system.content, user.content, answer.content) == ("Be polite.", "hello", "Let me see.")
    assert [call["id"] for call in answer.tool_calls] == [item.call_id for item in first.output[1:]]
    assert [(message.role, message.content, message.name) for message in told] == [
        ("tool", "20", "get_weather"),
        ("tool", "21", "get_weather"),
    ]
    assert [message.content for message in requests[1].messages] == [
        *("hello", "Let me see.", "20", "21"),
        *("It is 20 degrees.", "Thanks."),
    ]
    kept = logged(served, third)
    assert (kept["conversation"], kept["parent"]) == ("talk", second.id.removeprefix("resp_"))


def test_a_redacted_response_cannot_be_gone_on_from(served):
    service = served.service
    with scripted(served, ["x"]):
        first = respond(served)
    found = service.log.reader.get(first.id.removeprefix("resp_"))
    service.log.record(replace(found, id="redacted1", redacted=("email",))).result()
    with pytest.raises(openai.BadRequestError, match="redacted"):
        respond(served, previous_response_id="resp_redacted1")


def test_the_assistant_answers_too(grounded):
    response = grounded.client().responses.create(model="assistant", input="How many days of leave are there?")
    assert response.output_text and response.lmworks["citations"] is not None
    for name, value in (("tools", [WEATHER]), ("include", ["message.output_text.logprobs"])):
        with pytest.raises(openai.BadRequestError, match=name):
            grounded.client().responses.create(model="assistant", input="x", **{name: value})
    again = grounded.client().responses.retrieve(response.id)
    assert again.to_dict() == response.to_dict()
