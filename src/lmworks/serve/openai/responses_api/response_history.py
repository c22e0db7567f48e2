"""What came before a response: the items of its input, and the conversation that `previous_response_id` names."""

from collections.abc import Sequence
from dataclasses import dataclass

from lmworks.artefact import hash_json
from lmworks.config import from_mapping
from lmworks.generate.constraint import FunctionCalls
from lmworks.records import Interaction, Message
from lmworks.serve.openai.errors import ApiError
from lmworks.serve.openai.message_conversion import call_of
from lmworks.serve.openai.responses_api.response_requests import CallItem, Item, MessageItem
from lmworks.serve.openai.responses_api.response_store import KeptResponses
from lmworks.serve.openai.tool_call_parser import Said, read_all
from lmworks.serve.service import Service

PREFIX = "resp_"  # before the id of the interaction
STORED = "response"  # under which the lineage of a response that may be gone on from has the hash of its instructions
DELETED = "deleted by its client: DELETE /v1/responses"  # a note on what the log cannot forget


@dataclass(frozen=True, slots=True)
class Previous:
    """What an earlier response leaves to the next: its conversation without its instructions, and where it belongs."""

    messages: tuple[Message, ...]
    conversation: str
    interaction: str


def messages_of(given: str | Sequence[Item], before: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation with the input after it. Calls in a row are one message of the assistant, with what it said.

    ApiError for the result of a call that is not there.
    """
    if isinstance(given, str):
        return (*before, Message("user", given))
    rows = list(before)
    for item in given:
        match item:
            case MessageItem(role=role):
                rows.append(Message("system" if role == "developer" else role, item.text))
            case CallItem():
                call = call_of(item.call_id, item.name, item.arguments)
                if rows and rows[-1].role == "assistant":
                    rows[-1] = Message("assistant", rows[-1].content, (*rows[-1].tool_calls, call))
                else:
                    rows.append(Message("assistant", "", (call,)))
            case _:
                rows.append(Message("tool", item.text, (), _called(rows, item.call_id), item.call_id))
    return tuple(rows)


def _called(rows: Sequence[Message], identifier: str) -> str:
    """The name of the function that a call was of."""
    for message in rows:
        for call in message.tool_calls:
            if call["id"] == identifier:
                return call["function"]["name"]
    raise ApiError(
        400, f"input: there is no function_call before with the call_id {identifier!r}", "input", "invalid_value"
    )


async def previous(service: Service, kept: KeptResponses, identifier: str | None) -> Previous:
    """The conversation up to a response and with it, as it is kept, else as the log holds it; of None, an empty one.

    Its instructions are left out, as in OpenAI's API. ApiError where there is no such response, or not its words.
    """
    if identifier is None:
        return Previous((), "", "")
    here = kept.get(identifier)
    if here is not None:
        if here.answer is None:
            raise _unreadable(identifier)
        return Previous((*here.messages, here.answer), here.conversation, identifier.removeprefix(PREFIX))
    found = await logged(service, identifier)
    if found is None:
        raise _refused(404, f"there is no response {identifier!r}", "previous_response_not_found")
    if found.redacted:
        raise _refused(
            400,
            f"the words of {identifier!r} were redacted ({', '.join(found.redacted)}) before they were logged: send "
            "the conversation in input instead",
            "previous_response_redacted",
        )
    if found.operation != "chat" or found.finish_reason not in ("stop", "length"):
        raise _refused(400, f"{identifier!r} is no finished response", "previous_response_not_finished")
    return Previous((*_without_instructions(found), _answer(found)), found.conversation, found.id)


async def logged(service: Service, identifier: str) -> Interaction | None:
    """The response of this id as the log holds it; None where its client did not want it stored, or has deleted it."""
    try:
        found = await service.reading_log(lambda reader: reader.get(identifier.removeprefix(PREFIX)))
    except KeyError:
        return None
    deleted = any(note.kind == "note" and note.text == DELETED for note in found.feedback)
    return found if identifier.startswith(PREFIX) and STORED in found.lineage and not deleted else None


def instructions_hash(instructions: str | None) -> str:
    return hash_json(instructions)


def answer_of(said: Said) -> Message | None:
    """What the model said and called; None where it ended inside a call, or gave it a number beyond floats."""
    try:
        calls = tuple(call_of(call.id, call.name, call.arguments) for call in said.calls)
    except ValueError:
        return None
    return None if said.cut else Message("assistant", said.words, calls)


def _without_instructions(interaction: Interaction) -> tuple[Message, ...]:
    first, *rest = interaction.messages
    given = interaction.lineage.get(STORED)
    return tuple(rest) if given == instructions_hash(first.content) else interaction.messages


def _answer(interaction: Interaction) -> Message:
    """What the model said and called, read as it was then."""
    held = interaction.parameters.get("constraint")
    wanted = from_mapping(FunctionCalls, held, ("parameters", "constraint")) if held and interaction.tools else None
    answer = answer_of(read_all(wanted, interaction.id, interaction.response))
    if answer is None:
        raise _unreadable(f"{PREFIX}{interaction.id}")
    return answer


def _unreadable(identifier: str) -> ApiError:
    message = f"{identifier} ended inside a call, or has one that cannot be read: there is nothing to go on from"
    return _refused(400, message, "previous_response_not_finished")


def _refused(status: int, message: str, code: str) -> ApiError:
    return ApiError(status, message, "previous_response_id", code)
