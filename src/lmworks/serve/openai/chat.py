"""POST /v1/chat/completions."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from lmworks.generate.protocol import Token
from lmworks.records import Message
from lmworks.serve.events import Finished, Piece, Progress
from lmworks.serve.openai import extension, sampling
from lmworks.serve.openai.envelope import content, finish_reason, fresh_id, log_fields, system_fingerprint, usage
from lmworks.serve.openai.errors import Json, documented
from lmworks.serve.openai.log_probabilities import TokenBytes, chat_logprobs
from lmworks.serve.openai.requests import ChatMessage, ChatRequest
from lmworks.serve.openai.responses import (
    AnswerMessage,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatLogprobs,
    ChunkChoice,
    ChunkDelta,
    FinishReason,
)
from lmworks.serve.openai.stream import DONE, EventStream, answered, event
from lmworks.serve.recording import Turn
from lmworks.serve.service import Service

router = APIRouter(tags=["OpenAI"])
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ChatCompletion,
        "description": "the completion, or with `stream` a sequence of `chat.completion.chunk` events",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    **documented(400, 401, 403, 404, 413, 421, 429, 500, 503, 504),
}


@router.post("/v1/chat/completions", responses=_RESPONSES, response_model=None)
async def chat_completions(body: ChatRequest, request: Request) -> Response:
    """Complete a conversation: with a language model, or with `assistant`, which answers from the documents.

    The assistant takes the last message as the question, and its answer carries the evidence in `lmworks`.
    """
    service: Service = request.app.state.service
    if body.stream:
        return EventStream(_chunks(service, body))
    return await answered(request, lambda: _completion(service, body))


async def _completion(service: Service, body: ChatRequest) -> Response:
    chat = _Chat.begin(service, body)
    finished: dict[int, Finished] = {}
    async with aclosing(service.chat(chat.turn)) as events:
        async for one in events:
            if isinstance(one, Finished):
                finished[one.choice] = one
    choices = [finished[index] for index in sorted(finished)]
    answer = ChatCompletion(
        **chat.head,
        choices=[
            ChatChoice(
                index=one.choice,
                message=AnswerMessage(content=one.interaction.response),
                logprobs=chat.logprobs((one.completion and one.completion.tokens) or ()),
                finish_reason=finish_reason(one),
            )
            for one in choices
        ],
        usage=usage([choices]),
        lmworks=extension.of_choices(choices),
    )
    return Json(content(answer))


async def _chunks(service: Service, body: ChatRequest) -> AsyncGenerator[bytes, None]:
    chat = _Chat.begin(service, body)
    finished: list[Finished] = []
    async with aclosing(service.chat(chat.turn)) as events:
        async for one in events:
            match one:
                case Progress(name):
                    yield chat.chunk(0, "", extra={"progress": name})
                case Piece(choice, text, tokens) if text or body.logprobs:
                    yield chat.chunk(choice, text, tokens)
                case Finished(choice):
                    finished.append(one)
                    yield chat.chunk(choice, None, reason=finish_reason(one), extra=extension.of_finished(one))
    if body.stream_options and body.stream_options.include_usage:
        yield event(content(ChatChunk(**chat.head, choices=[], usage=usage([finished]))))
    yield DONE


@dataclass(slots=True)
class _Chat:
    """One request on its way: its turn, what all parts of the answer begin with, and which choices have begun."""

    turn: Turn
    head: dict[str, Any]
    alternatives: int
    names: TokenBytes | None  # None: no log-probabilities asked for
    begun: set[int] = field(default_factory=set)

    @classmethod
    def begin(cls, service: Service, body: ChatRequest) -> "_Chat":
        model = service.served(body.model)
        if model.kind == "assistant":
            sampling.refuse_for_assistant(body)
        sampling.check_choices(body.n or 1, service.config)
        turn = Turn(
            model=body.model,
            messages=tuple(_message(message) for message in body.messages),
            sampling=sampling.of_chat(body),
            n=body.n or 1,
            id=fresh_id(),
            **log_fields(body),
        )
        service.check(turn)
        head = {
            "id": f"chatcmpl-{turn.id}",
            "created": int(time.time()),
            "model": body.model,
            "system_fingerprint": system_fingerprint(service, body.model),
        }
        names = TokenBytes(service.language(body.model).checkpoint.tokenizer) if body.logprobs else None
        return cls(turn, head, body.top_logprobs or 0, names)

    def logprobs(self, tokens: tuple[Token, ...]) -> ChatLogprobs | None:
        return None if self.names is None else chat_logprobs(tokens, self.alternatives, self.names)

    def chunk(
        self,
        choice: int,
        text: str | None,
        tokens: tuple[Token, ...] = (),
        reason: FinishReason | None = None,
        extra: dict[str, Any] | None = None,
    ) -> bytes:
        """One event; the first of a choice names the role."""
        delta = ChunkDelta(role=None if choice in self.begun else "assistant", content=text)
        self.begun.add(choice)
        logprobs = self.logprobs(tokens) if tokens else None
        part = ChunkChoice(index=choice, delta=delta, logprobs=logprobs, finish_reason=reason)
        fields = content(ChatChunk(**self.head, choices=[part], lmworks=extra))
        fields["choices"][0]["delta"] = delta.model_dump(exclude_none=True)
        return event(fields)


def _message(message: ChatMessage) -> Message:
    """OpenAI's newer models call the system message "developer"."""
    role = "system" if message.role == "developer" else message.role
    return Message(role, message.text, name=message.name)
