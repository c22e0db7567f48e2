"""POST /v1/completions: text completions of language models, and with `echo` the scores of prompt tokens."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from starlette.responses import Response

from lmworks.generate.protocol import Token
from lmworks.serve.events import Finished, Piece
from lmworks.serve.interaction_record import Turn
from lmworks.serve.openai import sampling_fields
from lmworks.serve.openai.completion_prompts import Prompt, read_prompts
from lmworks.serve.openai.errors import ApiError, answers
from lmworks.serve.openai.generation_request import reply, turn_fields
from lmworks.serve.openai.logprobs import TextLogprobsWriter, TokenBytes
from lmworks.serve.openai.request_bodies import CompletionRequest
from lmworks.serve.openai.response_bodies import (
    FinishReason,
    TextChoice,
    TextCompletion,
    TextLogprobs,
    Usage,
    answer_head,
    body_fields,
    finish_reason,
    fresh_id,
    lmworks_field,
    lmworks_field_of_all,
    token_usage,
    usage,
    whole_answer,
)
from lmworks.serve.openai.sse_stream import DONE, event
from lmworks.serve.service import Service

T = TypeVar("T")
router = APIRouter(tags=["OpenAI"])
_RESPONSES = answers(TextCompletion, "a sequence of events of the same form")


@router.post("/v1/completions", responses=_RESPONSES)
async def completions(body: CompletionRequest, request: Request) -> Response:
    """Complete one or more prompts, each a text or token ids, without a chat template.

    With `echo`, `logprobs` 0 and `max_tokens` 0 nothing is generated: the answer scores the prompt.
    """
    return await reply(request, body, _completion, _chunks)


async def _completion(service: Service, body: CompletionRequest, client: str) -> Response:
    text = await _TextState.begin(service, body, client)
    finished: dict[int, Finished] = {}
    if body.max_tokens != 0:
        async with aclosing(text.events(service)) as events:
            async for index, turn_event in events:
                if isinstance(turn_event, Finished):
                    finished[index] = turn_event
    best = text.best(finished)
    done = [choice for choice in best if choice is not None]

    def whole() -> TextCompletion:
        choices = [text.whole(index, choice) for index, choice in enumerate(best)]
        extra = lmworks_field_of_all(done) if done else None
        return TextCompletion(**text.head, choices=choices, usage=text.usage(finished), lmworks=extra)

    return await whole_answer(done, whole)


async def _chunks(service: Service, body: CompletionRequest, client: str) -> AsyncGenerator[bytes, None]:
    text = await _TextState.begin(service, body, client)
    if body.echo:
        for index in range(len(text.prompts) * text.n):
            yield text.chunk(text.echoed(index, "stop" if body.max_tokens == 0 else None))
    finished: dict[int, Finished] = {}
    if body.max_tokens != 0:
        async with aclosing(text.events(service)) as events:
            async for index, turn_event in events:
                if isinstance(turn_event, Piece) and (turn_event.text or body.logprobs is not None):
                    yield text.chunk(text.part(index, turn_event.text, turn_event.tokens))
                if isinstance(turn_event, Finished):
                    finished[index] = turn_event
                    yield text.chunk(text.part(index, "", (), finish_reason(turn_event)), lmworks_field(turn_event))
    if body.stream_options and body.stream_options.include_usage:
        yield event(body_fields(TextCompletion(**text.head, choices=[], usage=text.usage(finished))))
    yield DONE


@dataclass(slots=True)
class _TextState:
    """One request in progress. Choice `index` completes prompt `index // n`, as OpenAI counts them.

    Of each prompt `samples` completions are made, of which the `n` best are returned.
    """

    body: CompletionRequest
    prompts: list[Prompt]
    n: int
    samples: int
    turns: list[Turn]
    head: dict[str, Any]
    names: TokenBytes
    writers: dict[int, TextLogprobsWriter] = field(default_factory=dict)

    @classmethod
    async def begin(cls, service: Service, body: CompletionRequest, client: str) -> "_TextState":
        if service.models.named(body.model).kind in ("assistant", "router"):
            raise ApiError(400, f"{body.model} answers chats only: POST /v1/chat/completions", "model")
        worker = service.models.language(body.model)
        samples = body.best_of or body.n or 1
        sampling_fields.check_choices(samples, service.config)
        with service.active_request():
            prompts = await read_prompts(
                worker,
                body.prompts,
                echo=bool(body.echo),
                room=int(body.max_tokens != 0),
                scoring=service.scoring if body.logprobs is not None else None,
                alternatives=body.logprobs or 0,
                adapter=service.models.adapter(body.model),
            )
        parameters, fields = sampling_fields.completion_parameters(body), turn_fields(body, client)
        turns = [
            Turn(body.model, prompt_ids=prompt.ids, sampling=parameters, n=samples, id=fresh_id(), **fields)
            for prompt in prompts
        ]
        head = answer_head(service, f"cmpl-{turns[0].id}", body.model)
        return cls(body, prompts, body.n or 1, samples, turns, head, TokenBytes(worker.checkpoint.required_tokenizer))

    async def events(self, service: Service) -> AsyncGenerator[tuple[int, Piece | Finished], None]:
        """(number of what is made, event); as many prompts at a time as the model has slots for their completions."""
        sources = [service.chat(turn) for turn in self.turns]
        at_once = max(1, service.config.slots // self.samples)
        async with aclosing(merged(sources, at_once)) as events:
            async for number, turn_event in events:
                if isinstance(turn_event, (Piece, Finished)):
                    yield number * self.samples + turn_event.choice, turn_event

    def best(self, finished: dict[int, Finished]) -> list[Finished | None]:
        """The `n` completions of each prompt with the highest mean ln p of their tokens; None where none was made."""
        if not finished:
            return [None] * (len(self.prompts) * self.n)
        best: list[Finished | None] = []
        for prompt in range(len(self.prompts)):
            group = [finished[prompt * self.samples + choice] for choice in range(self.samples)]
            best += sorted(group, key=_mean, reverse=True)[: self.n] if self.samples > self.n else group
        return best

    def whole(self, index: int, finished: Finished | None) -> TextChoice:
        """A choice at once; without `finished` it is its echoed prompt alone."""
        echoed = self.echoed(index, "stop") if self.body.echo else None
        if finished is None:
            assert echoed is not None  # the schema refuses max_tokens 0 without echo
            return echoed
        tokens = (finished.completion and finished.completion.tokens) or ()
        choice = self.part(index, finished.interaction.response, tokens, finish_reason(finished))
        if echoed is None:
            return choice
        return choice.model_copy(
            update={"text": echoed.text + choice.text, "logprobs": _joined(echoed.logprobs, choice.logprobs)}
        )

    def echoed(self, index: int, reason: FinishReason | None) -> TextChoice:
        prompt = self.prompts[index // self.n]
        logprobs = self._writer(index).write(prompt.tokens, prompt.values) if prompt.tokens else None
        return TextChoice(index=index, text=prompt.text, logprobs=logprobs, finish_reason=reason)

    def part(self, index: int, text: str, tokens: tuple[Token, ...], reason: FinishReason | None = None) -> TextChoice:
        asked = self.body.logprobs is not None and (tokens or not self.body.stream)
        logprobs = self._writer(index).write(tokens) if asked else None
        return TextChoice(index=index, text=text, logprobs=logprobs, finish_reason=reason)

    def chunk(self, choice: TextChoice, extra: dict[str, Any] | None = None) -> bytes:
        return event(body_fields(TextCompletion(**self.head, choices=[choice], lmworks=extra)))

    def usage(self, finished: dict[int, Finished]) -> Usage:
        if finished:
            groups = [[finished[p * self.samples + c] for c in range(self.samples)] for p in range(len(self.prompts))]
            return usage(groups)
        prompt = sum(len(prompt.ids) for prompt in self.prompts)
        return token_usage(prompt, 0)

    def _writer(self, index: int) -> TextLogprobsWriter:
        return self.writers.setdefault(index, TextLogprobsWriter(self.body.logprobs or 0, self.names))


def _mean(finished: Finished) -> float:
    values = finished.interaction.token_log_probabilities
    return sum(values) / len(values) if values else float("-inf")


def _joined(first: TextLogprobs | None, second: TextLogprobs | None) -> TextLogprobs | None:
    if first is None or second is None:
        return None
    return TextLogprobs(
        tokens=first.tokens + second.tokens,
        token_logprobs=first.token_logprobs + second.token_logprobs,
        top_logprobs=first.top_logprobs + second.top_logprobs if first.top_logprobs and second.top_logprobs else None,
        text_offset=first.text_offset + second.text_offset,
    )


async def merged(sources: Sequence[AsyncGenerator[T, None]], at_once: int) -> AsyncGenerator[tuple[int, T], None]:
    """(number of the source, item) as they come, from at most `at_once` sources at a time.

    The first error ends all sources and is raised; closing the iterator closes them.
    """
    if len(sources) == 1:  # nearly always: without a task and a queue in between
        async with aclosing(sources[0]) as items:
            async for item in items:
                yield 0, item
        return
    queue: asyncio.Queue[tuple[int, T] | BaseException | None] = asyncio.Queue(maxsize=64)
    room = asyncio.Semaphore(at_once)

    async def read(number: int, source: AsyncGenerator[T, None]) -> None:
        try:
            async with room, aclosing(source) as items:
                async for item in items:
                    await queue.put((number, item))
            await queue.put(None)
        except Exception as error:
            await queue.put(error)

    tasks = [asyncio.create_task(read(number, source)) for number, source in enumerate(sources)]
    running = len(tasks)
    try:
        while running:
            item = await queue.get()
            if item is None:
                running -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
