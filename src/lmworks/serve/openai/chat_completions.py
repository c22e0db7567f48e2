"""POST /v1/chat/completions."""

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
from lmworks.serve.openai import sampling_fields
from lmworks.serve.openai.errors import answers
from lmworks.serve.openai.generation_request import generation_request, reply, turn_fields
from lmworks.serve.openai.logprobs import TokenBytes, token_logprobs
from lmworks.serve.openai.request_bodies import ChatRequest, to_messages
from lmworks.serve.openai.response_bodies import (
    AnswerFunction,
    AnswerMessage,
    AnswerToolCall,
    CallDelta,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatLogprobs,
    ChunkChoice,
    ChunkDelta,
    FinishReason,
    FunctionDelta,
    answer_head,
    body_fields,
    finish_reason,
    fresh_id,
    lmworks_field,
    lmworks_field_of_all,
    usage,
    whole_answer,
)
from lmworks.serve.openai.sse_stream import DONE, event
from lmworks.serve.openai.tool_call_parser import (
    ArgumentsDelta,
    CompletionPart,
    TextPart,
    ToolCallParser,
    ToolCallStart,
    parse_completion,
)
from lmworks.serve.service import Service

router = APIRouter(tags=["OpenAI"])
_RESPONSES = answers(ChatCompletion, "a sequence of `chat.completion.chunk` events")


@router.post("/v1/chat/completions", responses=_RESPONSES)
async def chat_completions(body: ChatRequest, request: Request) -> Response:
    """Complete a conversation: with a language model, or with `assistant`, which answers from the documents.

    The assistant takes the last message as the question, and its answer carries the evidence in `lmworks`.
    """
    return await reply(request, body, _completion, _chunks)


async def _completion(service: Service, body: ChatRequest, client: str) -> Response:
    chat = _ChatState.begin(service, body, client)
    finished: dict[int, Finished] = {}
    async with aclosing(service.chat(chat.turn)) as events:
        async for turn_event in events:
            if isinstance(turn_event, Finished):
                finished[turn_event.choice] = turn_event
    choices = [finished[index] for index in sorted(finished)]
    return await whole_answer(
        choices,
        lambda: ChatCompletion(
            **chat.head,
            choices=[chat.choice(choice) for choice in choices],
            usage=usage([choices]),
            lmworks=lmworks_field_of_all(choices),
        ),
    )


async def _chunks(service: Service, body: ChatRequest, client: str) -> AsyncGenerator[bytes, None]:
    chat = _ChatState.begin(service, body, client)
    finished: list[Finished] = []
    async with aclosing(service.chat(chat.turn)) as events:
        async for turn_event in events:
            match turn_event:
                case Progress(name):
                    yield chat.chunk(0, ChunkDelta(content=""), extra={"progress": name})
                case Piece(choice, text, tokens):
                    for chunk in chat.pieces(choice, chat.parser(choice).feed(text), tokens):
                        yield chunk
                case Finished(choice):
                    finished.append(turn_event)
                    for chunk in chat.pieces(choice, chat.parser(choice).end(), ()):
                        yield chunk
                    yield chat.last(turn_event)
    if body.stream_options and body.stream_options.include_usage:
        yield event(body_fields(ChatChunk(**chat.head, choices=[], usage=usage([finished]))))
    yield DONE


@dataclass(slots=True)
class _ChatState:
    """One request in progress: its turn, the head of every part of its answer, and a parser for each choice."""

    turn: Turn
    head: dict[str, Any]
    alternatives: int
    names: TokenBytes | None  # None: no log-probabilities in the answer
    calls: FunctionCalls | None  # None: there can be none
    parsers: dict[int, ToolCallParser] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)

    @classmethod
    def begin(cls, service: Service, body: ChatRequest, client: str) -> "_ChatState":
        further = sampling_fields.further_chat_parameters(body)
        generation = generation_request(service, body, body.response_format, further)
        sampling_fields.check_choices(body.n or 1, service.config)
        turn = Turn(
            model=body.model,
            messages=to_messages(body.messages),
            tools=generation.tools,
            sampling=sampling_fields.chat_parameters(body, generation.constraint),
            n=body.n or 1,
            id=fresh_id(),
            **turn_fields(body, client),
        )
        service.models.check(turn)
        head = answer_head(service, f"chatcmpl-{turn.id}", body.model)
        names = TokenBytes(service.models.language(body.model).checkpoint.required_tokenizer) if body.logprobs else None
        return cls(turn, head, body.top_logprobs or 0, names, generation.calls)

    def logprobs(self, tokens: tuple[Token, ...]) -> ChatLogprobs | None:
        return (
            None if self.names is None else ChatLogprobs(content=token_logprobs(tokens, self.alternatives, self.names))
        )

    def parser(self, choice: int) -> ToolCallParser:
        return self.parsers.setdefault(choice, ToolCallParser(self.calls, choice_id(self.turn.id, choice)))

    def choice(self, finished: Finished) -> ChatChoice:
        """A choice at once."""
        parsed = parse_completion(self.calls, finished.interaction.id, finished.interaction.response)
        tool_calls = [
            AnswerToolCall(id=call.id, function=AnswerFunction(name=call.name, arguments=call.arguments))
            for call in parsed.calls
        ]
        return ChatChoice(
            index=finished.choice,
            message=AnswerMessage(content=parsed.text or (None if tool_calls else ""), tool_calls=tool_calls or None),
            logprobs=self.logprobs((finished.completion and finished.completion.tokens) or ()),
            finish_reason=finish_reason(finished, called=bool(tool_calls) and not parsed.cut),
        )

    def pieces(self, choice: int, parts: list[CompletionPart], tokens: tuple[Token, ...]) -> list[bytes]:
        """An event for each part; the log-probabilities are on the first, which may be empty for their sake."""
        deltas = [_delta(part) for part in parts]
        if not deltas and tokens and self.names is not None:
            deltas = [ChunkDelta(content="")]
        return [self.chunk(choice, delta, () if number else tokens) for number, delta in enumerate(deltas)]

    def last(self, finished: Finished) -> bytes:
        parser = self.parser(finished.choice)
        reason = finish_reason(finished, called=parser.calls > 0 and not parser.cut)
        return self.chunk(finished.choice, ChunkDelta(), reason=reason, extra=lmworks_field(finished))

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
        chunk_choice = ChunkChoice(index=choice, delta=delta, logprobs=logprobs, finish_reason=reason)
        fields = body_fields(ChatChunk(**self.head, choices=[chunk_choice], lmworks=extra))
        fields["choices"][0]["delta"] = delta.model_dump(exclude_none=True)
        return event(fields)


def _delta(part: CompletionPart) -> ChunkDelta:
    match part:
        case TextPart(text):
            return ChunkDelta(content=text)
        case ToolCallStart(number, identifier, name):
            function = FunctionDelta(name=name, arguments="")
            return ChunkDelta(tool_calls=[CallDelta(index=number, id=identifier, type="function", function=function)])
        case ArgumentsDelta(number, text):
            return ChunkDelta(tool_calls=[CallDelta(index=number, function=FunctionDelta(arguments=text))])
