"""What a client of the mixed soak is told: the text of each interaction, from an answer at once or from a stream."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
from soak_requests import Ask


class BrokenAnswerError(Exception):
    """An answer that is none: a stream that does not end, or an error that is no error of the interface."""


async def ask(client: httpx.AsyncClient, request: Ask) -> tuple[int, dict[str, str]]:
    """The status, which an error within a stream has too, and the text of each interaction that was acknowledged."""
    headers = {"Content-Type": "application/json"}
    async with client.stream("POST", request.path, content=request.content, headers=headers) as response:
        if response.status_code != 200 or not request.streams:
            body = json.loads(await response.aread())
            if response.status_code == 200:
                return 200, _told_at_once(body)
            if not body["error"]["message"]:
                raise BrokenAnswerError(f"an error without words: {body}")
            return response.status_code, {}
        return await _read_stream(_events(response), request.path)


def _told_at_once(body: dict[str, Any]) -> dict[str, str]:
    if body.get("object") == "response":
        return _of_response(body)
    extra = body.get("lmworks") or {}
    told: dict[str, str] = {}
    # Scores and tokens are not logged; their answers name no interaction.
    for choice, one in zip(body.get("choices", ()), extra.get("choices", [extra]), strict=False):
        if "interaction" in one:
            message = choice.get("message") or {}
            calls = message.get("tool_calls")
            told[one["interaction"]] = "" if calls else choice.get("text", message.get("content") or "")
    return told


def _of_response(body: dict[str, Any]) -> dict[str, str]:
    texts = [part["text"] for item in body["output"] for part in item.get("content", ())]
    return {body["id"].removeprefix("resp_"): "".join(texts)}


async def _events(response: httpx.Response) -> AsyncIterator[dict[str, Any] | None]:
    """The events; None is the word that says it was the last."""
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield None if line == "data: [DONE]" else json.loads(line.removeprefix("data: "))


async def _read_stream(events: AsyncIterator[dict[str, Any] | None], path: str) -> tuple[int, dict[str, str]]:
    texts: dict[int, str] = {}
    told: dict[str, str] = {}
    async for one in events:
        if one is None:
            return 200, told
        if one.get("error"):
            statuses = {"constraint_failed": 400, "deadline_exceeded": 504, "queue_full": 429}
            return statuses.get(one["error"]["code"], 500), {}
        if one.get("type") in ("response.completed", "response.incomplete"):
            return 200, _of_response(one["response"])
        for choice in one.get("choices", ()):
            index, delta = choice["index"], choice.get("delta") or {}
            texts[index] = texts.get(index, "") + (choice.get("text") or delta.get("content") or "")
            if delta.get("tool_calls"):
                texts[index] = ""
            extra = one.get("lmworks") or {}
            if choice["finish_reason"] and "interaction" in extra:
                told[extra["interaction"]] = texts[index]
    raise BrokenAnswerError(f"the stream of {path} ended without its last event")
