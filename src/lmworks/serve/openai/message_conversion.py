"""OpenAI's messages as those of the house."""

from collections.abc import Sequence
from typing import Any

from lmworks.records import Message
from lmworks.serve.openai.request_bodies import ChatMessage
from lmworks.serve.openai.tool_fields import object_of


def messages_of(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """OpenAI's newer models call the system message "developer". The result of a call is named after its function."""
    called: dict[str, str] = {}
    rows: list[Message] = []
    for message in messages:
        calls = [call_of(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()]
        called |= {call["id"]: call["function"]["name"] for call in calls}
        role = "system" if message.role == "developer" else message.role
        name = message.name or called.get(message.tool_call_id or "")
        rows.append(Message(role, message.text, tuple(calls), name, message.tool_call_id))
    return tuple(rows)


def call_of(identifier: str, name: str, arguments: str) -> dict[str, Any]:
    """A call as `Message.tool_calls` and chat templates have it; `arguments` as `object_of` takes them."""
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": object_of(arguments)}}
