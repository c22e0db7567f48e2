"""One response on its way: what was asked, what it is before it has any output, and what it is at its end."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lmworks.generate.constraint import FunctionCalls
from lmworks.generate.protocol import Token
from lmworks.records import Interaction, Message
from lmworks.serve.events import Finished
from lmworks.serve.interaction_record import Turn
from lmworks.serve.openai import lmworks_field, sampling_fields
from lmworks.serve.openai.envelope import cached_tokens, content, finish_reason, fresh_id, turn_fields
from lmworks.serve.openai.errors import Json
from lmworks.serve.openai.generation_request import Asked, asked
from lmworks.serve.openai.logprobs import TokenBytes
from lmworks.serve.openai.responses_api.message_logprobs import MessageLogprobs
from lmworks.serve.openai.responses_api.response_events import item_id
from lmworks.serve.openai.responses_api.response_history import (
    PREFIX,
    STORED,
    Previous,
    answer_of,
    instructions_hash,
    messages_of,
    previous,
)
from lmworks.serve.openai.responses_api.response_objects import (
    IncompleteDetails,
    InputTokensDetails,
    OutputCall,
    OutputItem,
    OutputMessage,
    OutputText,
    ResponseObject,
    ResponseUsage,
    Status,
)
from lmworks.serve.openai.responses_api.response_requests import ChosenFunction, ResponseRequest
from lmworks.serve.openai.responses_api.response_store import Kept, KeptResponses
from lmworks.serve.openai.tool_call_parser import Said, read_all
from lmworks.serve.service import Service

_PLAIN = {"type": "text"}


@dataclass(frozen=True, slots=True)
class Responding:
    """`given` is the conversation without the instructions; `names` is None where no log-probabilities are told."""

    turn: Turn
    head: ResponseObject
    calls: FunctionCalls | None
    given: tuple[Message, ...]
    names: TokenBytes | None

    @classmethod
    async def begin(cls, service: Service, kept: KeptResponses, body: ResponseRequest, client: str) -> "Responding":
        format_ = body.text.format if body.text else None
        formed = format_ is not None and format_.type != "text"
        further = {"text": formed, "tools": bool(body.tools), "include": bool(body.include)}
        wanted = asked(service, body, format_, further)
        before = await previous(service, kept, body.previous_response_id)
        given = messages_of(body.input, before.messages)
        turn = _turn(body, client, before, given, wanted)
        service.check(turn)
        names = TokenBytes(service.language(body.model).checkpoint.tokenizer) if body.include else None
        return cls(turn, _head(body, turn), wanted.calls, given, names)

    def logprobs(self) -> MessageLogprobs | None:
        return None if self.names is None else MessageLogprobs(self.names, self.turn.sampling.alternatives)

    def whole(self, finished: Finished) -> ResponseObject:
        """The response with its output."""
        interaction = finished.interaction
        status: Status = "incomplete" if finish_reason(finished) == "length" else "completed"
        tokens = (finished.completion and finished.completion.tokens) or ()
        return self.head.model_copy(
            update={
                "status": status,
                "completed_at": time.time(),
                "incomplete_details": IncompleteDetails() if status == "incomplete" else None,
                "output": _output(self.said(finished), interaction.id, status, self.logprobs(), tokens),
                "usage": _usage(interaction, cached_tokens(finished)),
                "lmworks": lmworks_field.of_finished(finished),
            }
        )

    def said(self, finished: Finished) -> Said:
        return read_all(self.calls, finished.interaction.id, finished.interaction.response)

    def keep(self, kept: KeptResponses, finished: Finished, whole: ResponseObject) -> None:
        """Keep the response, if its client wants that."""
        if self.head.store:
            body, answer = bytes(Json(content(whole)).body), answer_of(self.said(finished))
            kept.add(Kept(whole.id, body, self.given, answer, self.turn.conversation, whole.created_at))


def _output(
    said: Said, identifier: str, status: Status, logprobs: MessageLogprobs | None, tokens: Iterable[Token]
) -> list[OutputItem]:
    """The items of a response in the order of its text; the last one is incomplete where the response is."""
    items: list[OutputItem] = []
    if said.words or not said.calls:
        text = OutputText(text=said.words)
        if logprobs is not None:
            logprobs.take(tokens)
            text.logprobs = logprobs.until(len(said.words))
            if not said.calls and not said.cut:
                text.logprobs += logprobs.rest()
        items.append(OutputMessage(id=item_id("msg", identifier, 0), status="completed", content=[text]))
    for call in said.calls:
        name = item_id("fc", identifier, len(items))
        items.append(OutputCall(id=name, call_id=call.id, name=call.name, arguments=call.arguments, status="completed"))
    items[-1].status = status
    return items


def _turn(body: ResponseRequest, client: str, before: Previous, given: tuple[Message, ...], wanted: Asked) -> Turn:
    instructions = (Message("system", body.instructions),) if body.instructions else ()
    fields = turn_fields(body, client)
    return Turn(
        model=body.model,
        messages=(*instructions, *given),
        tools=wanted.tools,
        sampling=sampling_fields.of_response(body, wanted.constraint),
        id=fresh_id(),
        **{
            **fields,
            "conversation": fields["conversation"] or before.conversation,
            "parent": fields["parent"] or before.interaction or None,
        },
        lineage={} if body.store is False else {STORED: instructions_hash(body.instructions)},
    )


def _head(body: ResponseRequest, turn: Turn) -> ResponseObject:
    """What the request said, as the answer repeats it."""
    choice = body.tool_choice
    text: dict[str, Any] = body.text.format.model_dump(by_alias=True) if body.text and body.text.format else _PLAIN
    return ResponseObject(
        id=f"{PREFIX}{turn.id}",
        created_at=time.time(),
        status="in_progress",
        model=body.model,
        instructions=body.instructions,
        previous_response_id=body.previous_response_id,
        max_output_tokens=body.max_output_tokens,
        temperature=turn.sampling.temperature,
        top_p=turn.sampling.top_p,
        text={"format": text},
        tools=[tool.model_dump() for tool in body.tools or ()],
        tool_choice=choice.model_dump() if isinstance(choice, ChosenFunction) else choice or "auto",
        parallel_tool_calls=body.parallel_tool_calls is not False,
        metadata=body.metadata.model_dump(exclude_none=True) if body.metadata else {},
        store=body.store is not False,
        top_logprobs=body.top_logprobs or 0,
        user=body.user,
        safety_identifier=body.safety_identifier,
        prompt_cache_key=body.prompt_cache_key,
    )


def _usage(interaction: Interaction, cached: int) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=interaction.input_tokens,
        input_tokens_details=InputTokensDetails(cached_tokens=cached),
        output_tokens=interaction.output_tokens,
        total_tokens=interaction.input_tokens + interaction.output_tokens,
    )
