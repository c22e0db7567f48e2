"""POST /v1/chat/completions."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from lmworks.generate.constraint import FunctionCalls
from lmworks.generate.protocol import Token
from lmworks.serve.events import Finished, Piece, Progress
from lmworks.serve.interaction_record import Turn, choice_id
from lmworks.serve.openai import lmworks_field, sampling_fields
from lmworks.serve.openai.envelope import (
    content,
    finish_reason,
    fresh_id,
    reply,
    system_fingerprint,
    turn_fields,
    usage,
)
from lmworks.serve.openai.errors import Json, documented
from lmworks.serve.openai.generation_request import asked
from lmworks.serve.openai.logprobs import TokenBytes, token_logprobs
from lmworks.serve.openai.message_conversion import messages_of
from lmworks.serve.openai.request_bodies import ChatRequest
from lmworks.serve.openai.response_bodies import (
    AnsweredCall,
    AnsweredFunction,
    AnswerMessage,
    CallDelta,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatLogprobs,
    ChunkChoice,
    ChunkDelta,
    FinishReason,
    FunctionDelta,
)
from lmworks.serve.openai.sse_stream import DONE, event
from lmworks.serve.openai.tool_call_parser import ArgumentsPiece, CallBegins, CallReader, Part, Words, read_all
from lmworks.serve.service import Service

router = APIRouter(tags=["OpenAI"])
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ChatCompletion,
        "description": "the completion, or with `stream` a sequence of `chat.completion.chunk` events",
        "content": {"text/event-stream": {}},
    },
    **documented(400, 401, 403, 404, 413, 421, 429, 500, 503, 504),
}


@router.post("/v1/chat/completions", responses=_RESPONSES, response_model=None)
async def chat_completions(body: ChatRequest, request: Request) -> Response:
    """Complete a conversation: with a language model, or with `assistant`, which answers from the documents.

    The assistant takes the last message as the question, and its answer carries the evidence in `lmworks`.
    """
    return await reply(request, body, _completion, _chunks)


async def _completion(service: Service, body: ChatRequest, client: str) -> Response:
    chat = _Chat.begin(service, body, client)
    finished: dict[int, Finished] = {}
    async with aclosing(service.chat(chat.turn)) as events:
        async for one in events:
            if isinstance(one, Finished):
                finished[one.choice] = one
    choices = [finished[index] for index in sorted(finished)]
    answer = ChatCompletion(
        **chat.head,
        choices=[chat.choice(one) for one in choices],
        usage=usage([choices]),
        lmworks=lmworks_field.of_choices(choices),
    )
    return Json(content(answer))


async def _chunks(service: Service, body: ChatRequest, client: str) -> AsyncGenerator[bytes, None]:
    chat = _Chat.begin(service, body, client)
    finished: list[Finished] = []
    async with aclosing(service.chat(chat.turn)) as events:
        async for one in events:
            match one:
                case Progress(name):
                    yield chat.chunk(0, ChunkDelta(content=""), extra={"progress": name})
                case Piece(choice, text, tokens):
                    for chunk in chat.pieces(choice, chat.reader(choice).feed(text), tokens):
                        yield chunk
                case Finished(choice):
                    finished.append(one)
                    for chunk in chat.pieces(choice, chat.reader(choice).end(), ()):
                        yield chunk
                    yield chat.last(one)
    if body.stream_options and body.stream_options.include_usage:
        yield event(content(ChatChunk(**chat.head, choices=[], usage=usage([finished]))))
    yield DONE


@dataclass(slots=True)
class _Chat:
    """One request on its way: its turn, what all parts of the answer begin with, and what was read of each choice."""

    turn: Turn
    head: dict[str, Any]
    alternatives: int
    names: TokenBytes | None  # None: no log-probabilities asked for
    calls: FunctionCalls | None  # None: there can be none
    readers: dict[int, CallReader] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)

    @classmethod
    def begin(cls, service: Service, body: ChatRequest, client: str) -> "_Chat":
        wanted = asked(service, body, body.response_format, sampling_fields.chat_asks_for(body))
        sampling_fields.check_choices(body.n or 1, service.config)
        turn = Turn(
            model=body.model,
            messages=messages_of(body.messages),
            tools=wanted.tools,
            sampling=sampling_fields.of_chat(body, wanted.constraint),
            n=body.n or 1,
            id=fresh_id(),
            **turn_fields(body, client),
        )
        service.check(turn)
        head = {
            "id": f"chatcmpl-{turn.id}",
            "created": int(time.time()),
            "model": body.model,
            "system_fingerprint": system_fingerprint(service, body.model),
        }
        names = TokenBytes(service.language(body.model).checkpoint.tokenizer) if body.logprobs else None
        return cls(turn, head, body.top_logprobs or 0, names, wanted.calls)

    def logprobs(self, tokens: tuple[Token, ...]) -> ChatLogprobs | None:
        return (
            None if self.names is None else ChatLogprobs(content=token_logprobs(tokens, self.alternatives, self.names))
        )

    def reader(self, choice: int) -> CallReader:
        return self.readers.setdefault(choice, CallReader(self.calls, choice_id(self.turn.id, choice)))

    def choice(self, one: Finished) -> ChatChoice:
        """A choice at once."""
        said = read_all(self.calls, one.interaction.id, one.interaction.response)
        made = [
            AnsweredCall(id=call.id, function=AnsweredFunction(name=call.name, arguments=call.arguments))
            for call in said.calls
        ]
        return ChatChoice(
            index=one.choice,
            message=AnswerMessage(content=said.words or (None if made else ""), tool_calls=made or None),
            logprobs=self.logprobs((one.completion and one.completion.tokens) or ()),
            finish_reason=finish_reason(one, called=bool(made) and not said.cut),
        )

    def pieces(self, choice: int, parts: list[Part], tokens: tuple[Token, ...]) -> list[bytes]:
        """An event for each part; the log-probabilities are on the first, which may be empty for their sake."""
        deltas = [_delta(part) for part in parts]
        if not deltas and tokens and self.names is not None:
            deltas = [ChunkDelta(content="")]
        return [self.chunk(choice, delta, () if number else tokens) for number, delta in enumerate(deltas)]

    def last(self, one: Finished) -> bytes:
        reader = self.reader(one.choice)
        reason = finish_reason(one, called=reader.calls > 0 and not reader.cut)
        return self.chunk(one.choice, ChunkDelta(), reason=reason, extra=lmworks_field.of_finished(one))

    def chunk(
        self,
        choice: int,
        delta: ChunkDelta,
        tokens: tuple[Token, ...] = (),
        reason: FinishReason | None = None,
        extra: dict[str, Any] | None = None,
    ) -> bytes:
        """One event; the first of a choice names the role."""
        if choice not in self.begun:
            delta = delta.model_copy(update={"role": "assistant"})
        self.begun.add(choice)
        logprobs = self.logprobs(tokens) if tokens else None
        part = ChunkChoice(index=choice, delta=delta, logprobs=logprobs, finish_reason=reason)
        fields = content(ChatChunk(**self.head, choices=[part], lmworks=extra))
        fields["choices"][0]["delta"] = delta.model_dump(exclude_none=True)
        return event(fields)


def _delta(part: Part) -> ChunkDelta:
    match part:
        case Words(text):
            return ChunkDelta(content=text)
        case CallBegins(number, identifier, name):
            function = FunctionDelta(name=name, arguments="")
            return ChunkDelta(tool_calls=[CallDelta(index=number, id=identifier, type="function", function=function)])
        case ArgumentsPiece(number, text):
            return ChunkDelta(tool_calls=[CallDelta(index=number, function=FunctionDelta(arguments=text))])
