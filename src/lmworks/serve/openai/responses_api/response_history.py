"""The conversation of a response: its input as items, the responses before it, and the store of those that are kept."""

import json
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lmworks.artefact import hash_json
from lmworks.config import from_mapping
from lmworks.generate.constraint import FunctionCalls
from lmworks.records import Interaction, Message
from lmworks.serve.openai.errors import ApiError
from lmworks.serve.openai.request_fields import to_tool_call
from lmworks.serve.openai.responses_api.responses_bodies import (
    FunctionCallItem,
    InputCallOutput,
    InputItem,
    InputMessage,
    InputText,
    Item,
    ItemList,
    MessageItem,
    OutputCall,
    OutputText,
    item_id,
)
from lmworks.serve.openai.tool_call_parser import ParsedCompletion, parse_completion
from lmworks.serve.service import Service
from lmworks.serve.thread_offload import text_length

PREFIX = "resp_"  # before the id of the interaction
STORED = "response"  # key in the lineage of a response that a later one may continue: the hash of its instructions
DELETED = "deleted by its client: DELETE /v1/responses"  # a note on what the log cannot forget
MAXIMUM_RESPONSES = 1000
MAXIMUM_CHARACTERS = 32_000_000  # of all stored responses, as JSON


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response that can be retrieved and continued.

    body          its JSON, as it was sent.
    messages      the conversation before it, without the instructions.
    answer        its text and calls; None where a call in it cannot be read, so that it cannot be continued.
    conversation  where it belongs, for the log.
    time          when it was requested, in seconds since the epoch.
    """

    id: str
    body: bytes
    messages: tuple[Message, ...]
    answer: Message | None
    conversation: str
    time: float

    @property
    def characters(self) -> int:
        """Its size, roughly; turns of one conversation share their messages, which count for each."""
        return len(self.body) + text_length(self.messages)


class ResponseStore:
    """The newest `MAXIMUM_RESPONSES`, fewer when they are large; none that is older than the log keeps what it holds.

    In memory alone: the log would not do, since what it holds was redacted, and no client can take anything out of it.
    For the event loop alone. `retention_seconds` 0 is no limit.
    """

    def __init__(self, retention_seconds: float = 0.0) -> None:
        self._retention = retention_seconds
        self._stored: OrderedDict[str, StoredResponse] = OrderedDict()
        self._characters = 0

    def add(self, response: StoredResponse) -> None:
        self.remove(response.id)
        self._stored[response.id] = response
        self._characters += response.characters
        self._drop_old()
        while len(self._stored) > MAXIMUM_RESPONSES or self._characters > MAXIMUM_CHARACTERS:
            self.remove(next(iter(self._stored)))

    def get(self, identifier: str) -> StoredResponse | None:
        """None for one that was never stored, or is not any more."""
        self._drop_old()
        return self._stored.get(identifier)

    def remove(self, identifier: str) -> None:
        response = self._stored.pop(identifier, None)
        if response is not None:
            self._characters -= response.characters

    def _drop_old(self) -> None:
        if self._retention:
            oldest = time.time() - self._retention
            for identifier in [response.id for response in self._stored.values() if response.time < oldest]:
                self.remove(identifier)


@dataclass(frozen=True, slots=True)
class Previous:
    """The conversation that a response continues, without instructions, and where it belongs."""

    messages: tuple[Message, ...]
    conversation: str
    interaction: str


def input_messages(body_input: str | Sequence[Item], before: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation with the input after it. Calls in a row are one message of the assistant, with its text.

    ApiError for the result of a call that is not there.
    """
    if isinstance(body_input, str):
        return (*before, Message("user", body_input))
    rows = list(before)
    for item in body_input:
        match item:
            case MessageItem(role=role):
                rows.append(Message("system" if role == "developer" else role, item.text))
            case FunctionCallItem():
                call = to_tool_call(item.call_id, item.name, item.arguments)
                if rows and rows[-1].role == "assistant":
                    rows[-1] = Message("assistant", rows[-1].content, (*rows[-1].tool_calls, call))
                else:
                    rows.append(Message("assistant", "", (call,)))
            case _:
                rows.append(Message("tool", item.text, (), _function_name(rows, item.call_id), item.call_id))
    return tuple(rows)


def _function_name(rows: Sequence[Message], identifier: str) -> str:
    """The name of the function that a call was of."""
    for message in rows:
        for call in message.tool_calls:
            if call["id"] == identifier:
                return call["function"]["name"]
    raise ApiError(
        400, f"input: there is no function_call before with the call_id {identifier!r}", "input", "invalid_value"
    )


async def previous(service: Service, store: ResponseStore, identifier: str | None) -> Previous:
    """The conversation up to a response and with it, from the store, else from the log; an empty one for None.

    Its instructions are left out, as in OpenAI's API. ApiError where there is none, or its text is redacted.
    """
    if identifier is None:
        return Previous((), "", "")
    here = store.get(identifier)
    if here is not None:
        if here.answer is None:
            raise _unreadable(identifier)
        return Previous((*here.messages, here.answer), here.conversation, identifier.removeprefix(PREFIX))
    logged = await logged_response(service, identifier)
    if logged is None:
        raise _invalid(404, f"there is no response {identifier!r}", "previous_response_not_found")
    if logged.redacted:
        raise _invalid(
            400,
            f"the words of {identifier!r} were redacted ({', '.join(logged.redacted)}) before they were logged: send "
            "the conversation in input instead",
            "previous_response_redacted",
        )
    if logged.operation != "chat" or logged.finish_reason not in ("stop", "length"):
        raise _invalid(400, f"{identifier!r} is no finished response", "previous_response_not_finished")
    return Previous((*_without_instructions(logged), _logged_answer(logged)), logged.conversation, logged.id)


async def logged_response(service: Service, identifier: str) -> Interaction | None:
    """The response of this id as the log holds it; None where its client did not want it stored, or has deleted it."""
    try:
        interaction = await service.read_log(lambda reader: reader.get(identifier.removeprefix(PREFIX)))
    except KeyError:
        return None
    deleted = any(note.kind == "note" and note.text == DELETED for note in interaction.feedback)
    return interaction if identifier.startswith(PREFIX) and STORED in interaction.lineage and not deleted else None


def instructions_hash(instructions: str | None) -> str:
    return hash_json(instructions)


def answer_message(parsed: ParsedCompletion) -> Message | None:
    """The text and the calls of a completion; None where it ended inside a call, or gave it a number beyond floats."""
    try:
        calls = tuple(to_tool_call(call.id, call.name, call.arguments) for call in parsed.calls)
    except ValueError:
        return None
    return None if parsed.cut else Message("assistant", parsed.text, calls)


def _without_instructions(interaction: Interaction) -> tuple[Message, ...]:
    first, *later = interaction.messages
    stored_hash = interaction.lineage.get(STORED)
    return tuple(later) if stored_hash == instructions_hash(first.content) else interaction.messages


def _logged_answer(interaction: Interaction) -> Message:
    """The text and the calls of an answer, parsed in the form that it was held to."""
    held = interaction.parameters.get("constraint")
    form = from_mapping(FunctionCalls, held, ("parameters", "constraint")) if held and interaction.tools else None
    answer = answer_message(parse_completion(form, interaction.id, interaction.response))
    if answer is None:
        raise _unreadable(f"{PREFIX}{interaction.id}")
    return answer


def _unreadable(identifier: str) -> ApiError:
    message = f"{identifier} ended inside a call, or has one that cannot be read: there is nothing to continue from"
    return _invalid(400, message, "previous_response_not_finished")


def _invalid(status: int, message: str, code: str) -> ApiError:
    return ApiError(status, message, "previous_response_id", code)


# ---------------------------------------------------------------------------------------------------------------------
# The input as items


class ItemPage(BaseModel):
    """The query parameters of a page of items; others are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(default=20, ge=1, le=100)
    order: Literal["asc", "desc"] = Field(default="desc", description="asc: as they were given")
    after: str | None = Field(default=None, max_length=128, description="the id of the item before the page")


def input_page(messages: Sequence[Message], identifier: str, page: ItemPage) -> ItemList:
    """The items of a conversation before a response, named after it; ApiError for an unknown `after`."""
    items = list(_items(messages, f"{identifier}_in"))
    if page.order == "desc":
        items.reverse()
    if page.after is not None:
        positions = [number for number, item in enumerate(items) if item.id == page.after]
        if not positions:
            raise ApiError(404, f"the response has no input item {page.after!r}", "after", "item_not_found")
        items = items[positions[0] + 1 :]
    shown = items[: page.limit]
    first, last = (shown[0].id, shown[-1].id) if shown else (None, None)
    return ItemList(data=shown, first_id=first, last_id=last, has_more=len(shown) < len(items))


def _items(messages: Sequence[Message], identifier: str) -> Iterator[InputItem]:
    """As the model got them: the parts of a content are one text, and "developer" is "system"."""
    number = 0

    def named(kind: str) -> dict[str, Any]:
        nonlocal number
        number += 1
        return {"id": item_id(kind, identifier, number - 1), "status": "completed"}

    for message in messages:
        if message.role == "tool":
            yield InputCallOutput(**named("fco"), call_id=message.tool_call_id or "", output=message.content)
        elif message.role != "assistant":
            yield InputMessage(**named("msg"), role=message.role, content=[InputText(text=message.content)])
        elif message.content or not message.tool_calls:
            yield InputMessage(**named("msg"), role="assistant", content=[OutputText(text=message.content)])
        for call in message.tool_calls:
            function = call["function"]
            arguments = json.dumps(function["arguments"], ensure_ascii=False)
            yield OutputCall(**named("fc"), call_id=call["id"], name=function["name"], arguments=arguments)
