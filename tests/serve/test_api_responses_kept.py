"""Responses through the official client after they were made: asked for again, gone on from, taken back, forgotten."""

import json
from dataclasses import replace

import openai
import pytest
from scripted import scripted
from weather import CALL, FUNCTION

from kit.tables import for_each
from lmworks.records import Message
from lmworks.serve.openai.responses_api import response_history
from lmworks.serve.openai.responses_api.response_history import ResponseStore, StoredResponse

WEATHER = {"type": "function", **FUNCTION}


def respond(running, given="hello", **options):
    return running.client().responses.create(model="tiny", input=given, **options)


def forget(running) -> None:
    """As a restart does."""
    responses = running.server.config.app.state.responses
    for identifier in list(responses._stored):
        responses.remove(identifier)


def test_a_response_is_told_again_as_it_was(served):
    options = {"instructions": "Be brief.", "metadata": {"unit": "someone"}, "temperature": 0.5, "tools": [WEATHER]}
    include = ["message.output_text.logprobs"]
    with scripted(served, ["Well.", "\n" + CALL]):
        whole = respond(served, **options, include=include)
        streamed = list(respond(served, **options, include=include, stream=True))[-1].response
    for made in (whole, streamed):
        again = served.client().responses.retrieve(made.id)
        assert again.to_dict() == made.to_dict()
        assert [item.type for item in again.output] == ["message", "function_call"]


def test_the_items_are_the_whole_conversation_page_by_page(served):
    with scripted(served, ["Let me see.\n" + CALL]):
        first = respond(served, instructions="Be brief.", tools=[WEATHER])
    result = {"type": "function_call_output", "call_id": first.output[1].call_id, "output": "22"}
    given = [result, {"role": "developer", "content": "Be kind."}, {"role": "user", "content": "And?"}]
    with scripted(served, ["Warm."]) as requests:
        second = respond(served, given, previous_response_id=first.id, instructions="Be polite.")
    listed = served.client().responses.input_items.list
    items = list(listed(second.id, order="asc", limit=2))  # the client asks for page after page
    told = [getattr(item, "role", item.type) for item in items]
    assert told == ["user", "assistant", "function_call", "function_call_output", "system", "user"]
    assert [item.content[0].text for item in items if item.type == "message"] == [
        *("hello", "Let me see.", "Be kind.", "And?")
    ]
    assert json.loads(items[2].arguments) == {"place": "Graz"} and items[3].output == "22"
    assert items[2].call_id == items[3].call_id == first.output[1].call_id
    assert len({item.id for item in items}) == len(items)
    newest = listed(second.id, limit=4)
    assert [item.id for item in newest.data] == [item.id for item in items][:1:-1]
    assert newest.has_more and (newest.first_id, newest.last_id) == (items[-1].id, items[2].id)
    assert not listed(second.id, after=items[3].id, order="asc").has_more
    sent = [{key: value for key, value in item.to_dict().items() if key != "status"} for item in items]
    with scripted(served, ["Warm."]) as again:
        respond(served, sent, instructions="Be polite.")
    assert again[0].messages == requests[0].messages  # what is listed can be sent as an input


@for_each(
    ("query", "param"),
    [({"limit": 0}, "limit"), ({"order": "up"}, "order"), ({"before": "x"}, "before"), ({"after": "x"}, "after")],
)
def test_a_page_that_cannot_be_is_refused_by_name(served, query, param):
    response = respond(served, max_output_tokens=1)
    answer = served.http().get(f"/v1/responses/{response.id}/input_items", params=query)
    assert answer.status_code == (404 if param == "after" else 400)
    assert answer.json()["error"]["param"] == param
    again = served.http().get(f"/v1/responses/{response.id}", params=query)
    assert (again.status_code, again.json()["error"]["param"]) == (400, param)


def test_what_was_deleted_is_gone(served):
    """Also after a restart, which leaves what the log holds."""
    client = served.client()
    for restarted in (False, True):
        response = respond(served, max_output_tokens=1)
        if restarted:
            forget(served)
        assert respond(served, "more", previous_response_id=response.id, max_output_tokens=1)
        client.responses.delete(response.id)
        for _ in range(2):
            with pytest.raises(openai.NotFoundError):
                client.responses.retrieve(response.id)
            with pytest.raises(openai.NotFoundError):
                client.responses.input_items.list(response.id)
            with pytest.raises(openai.NotFoundError, match="there is no response"):
                respond(served, "more", previous_response_id=response.id)
            with pytest.raises(openai.NotFoundError):
                client.responses.delete(response.id)
            forget(served)
        noted = served.http().get(f"/api/interactions/{response.id.removeprefix('resp_')}").json()
        assert "deleted by its client" in noted["feedback"][0]["text"]


def test_what_was_not_to_be_stored_is_not_found(served):
    response = respond(served, max_output_tokens=1, store=False)
    assert response.store is False
    chat = served.client().chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "x"}], max_tokens=1
    )
    for identifier in (response.id, f"resp_{chat.lmworks['interaction']}", "resp_never", response.id[5:]):
        with pytest.raises(openai.NotFoundError):
            served.client().responses.retrieve(identifier)
        with pytest.raises(openai.NotFoundError):
            respond(served, previous_response_id=identifier)
        with pytest.raises(openai.NotFoundError):
            served.client().responses.delete(identifier)


def test_a_conversation_goes_on_alike_from_memory_and_from_the_log(served):
    with scripted(served, ["Let me see.\n" + CALL]):
        first = respond(served, instructions="Be brief.", tools=[WEATHER], metadata={"conversation": "talk"})
    result = [{"type": "function_call_output", "call_id": first.output[1].call_id, "output": "22"}]
    with scripted(served, ["Warm."]) as requests:
        respond(served, result, previous_response_id=first.id)
        forget(served)
        last = respond(served, result, previous_response_id=first.id)
    assert requests[0].messages == requests[1].messages
    assert [message.role for message in requests[0].messages] == ["user", "assistant", "tool"]
    kept_of_last = served.http().get(f"/api/interactions/{last.id.removeprefix('resp_')}").json()
    assert (kept_of_last["conversation"], kept_of_last["parent"]) == ("talk", first.id.removeprefix("resp_"))


@for_each(("call", "reason"), [(CALL[:-22], "length"), (CALL.replace('"Graz"', "1e999"), "stop")])
def test_nothing_goes_on_from_a_call_that_cannot_be_read(served, call, reason):
    with scripted(served, [call], reason=reason):
        response = respond(served, tools=[WEATHER])
    assert response.output[0].status == response.status == {"length": "incomplete", "stop": "completed"}[reason]
    assert served.client().responses.retrieve(response.id).output[0].arguments == response.output[0].arguments
    for _ in range(2):
        with pytest.raises(openai.BadRequestError, match="inside a call"):
            respond(served, previous_response_id=response.id)
        forget(served)


def one(number: int, time: float = 0.0, body: bytes = b"{}") -> StoredResponse:
    return StoredResponse(f"resp_{number}", body, (Message("user", "x"),), Message("assistant", "y"), "", time)


def test_only_the_newest_are_kept(monkeypatch):
    monkeypatch.setattr(response_history, "MAXIMUM_RESPONSES", 3)
    responses = ResponseStore()
    for number in range(5):
        responses.add(one(number))
    assert [responses.get(f"resp_{number}") is not None for number in range(5)] == [False, False, True, True, True]
    monkeypatch.setattr(response_history, "MAXIMUM_CHARACTERS", 40)
    responses.add(one(5, body=b"x" * 35))
    assert responses.get("resp_5") and responses.get("resp_4") and not responses.get("resp_3")
    responses.add(one(6, body=b"x" * 50))  # by itself too large
    assert not any(responses.get(f"resp_{number}") for number in range(7))
    assert responses._characters == 0


def test_none_outlives_what_the_log_keeps(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(response_history.time, "time", lambda: now)
    responses, forever = ResponseStore(retention_seconds=60), ResponseStore()
    for number, time in enumerate((950.0, 930.0, 990.0)):  # the second was asked for earlier, and took longer
        responses.add(one(number, time))
        forever.add(one(number, time))
    assert [responses.get(f"resp_{number}") is not None for number in range(3)] == [True, False, True]
    now = 1020.0
    assert [responses.get(f"resp_{number}") is not None for number in range(3)] == [False, False, True]
    assert all(forever.get(f"resp_{number}") for number in range(3))
    responses.add(replace(one(2), time=1020.0))
    assert responses.get("resp_2") == replace(one(2), time=1020.0)
