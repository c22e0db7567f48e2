"""The events of a streamed response: each item of the output is added, grows, and is done, in the order of the text."""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from lmworks.generate.protocol import Token
from lmworks.serve.events import Piece
from lmworks.serve.openai.errors import ApiError
from lmworks.serve.openai.logprobs import TextOffsets, TokenBytes, token_logprobs
from lmworks.serve.openai.response_bodies import TokenLogprob
from lmworks.serve.openai.responses_api.responses_bodies import (
    OutputCall,
    OutputMessage,
    OutputText,
    ResponseObject,
    Status,
    item_id,
)
from lmworks.serve.openai.tool_call_parser import (
    ArgumentsDelta,
    CompletionPart,
    TextPart,
    ToolCallParser,
    ToolCallStart,
)


class MessageLogprobs:
    """The log-probabilities of the tokens of a message, the text before any calls, as that text grows.

    Text may be held back while its tokens are known already, so a token waits until the message has reached it.
    """

    def __init__(self, names: TokenBytes, alternatives: int) -> None:
        self._names, self._alternatives = names, alternatives
        self._offsets = TextOffsets(names)
        self._waiting: deque[tuple[int, Token]] = deque()  # each with where it begins

    def take(self, tokens: Iterable[Token]) -> None:
        """The next tokens of the completion."""
        for token in tokens:
            start = self._offsets.advance(token, hidden=token.id in self._names.special_ids)
            self._waiting.append((start, token))

    def until(self, length: int) -> list[TokenLogprob]:
        """The waiting tokens that begin within the first `length` code points of the text."""
        tokens: list[Token] = []
        while self._waiting and self._waiting[0][0] < length:
            tokens.append(self._waiting.popleft()[1])
        return token_logprobs(tokens, self._alternatives, self._names)

    def rest(self) -> list[TokenLogprob]:
        """All that still wait: the token that ends the text is one of a message without calls."""
        tokens = [token for _, token in self._waiting]
        self._waiting.clear()
        return token_logprobs(tokens, self._alternatives, self._names)


@dataclass(slots=True)
class _Open:
    """The item that grows, and where it stands in the output."""

    item: OutputMessage | OutputCall
    index: int


class ResponseEvents:
    """Server-sent events of one response, whose text `parser` parses.

    `identifier` names its items; with `logprobs` None the events have none.
    """

    def __init__(self, parser: ToolCallParser, identifier: str, logprobs: MessageLogprobs | None) -> None:
        self._parser, self._identifier, self._logprobs = parser, identifier, logprobs
        self._number = count()
        self._open: _Open | None = None
        self._done = 0  # items

    def state(self, kind: str, response: ResponseObject) -> bytes:
        """`response.created`, `response.in_progress`, `response.completed` or `response.incomplete`."""
        return self._event(kind, response=response.model_dump())

    def failure(self, error: ApiError) -> bytes:
        """The last event of a stream that fails. `error` is for clients that look for it in every stream."""
        detail = {"code": error.code, "message": error.message, "param": error.param}
        return self._event("error", **detail, **error.body)

    def piece(self, piece: Piece) -> Iterator[bytes]:
        """The events of one piece of the completion."""
        if self._logprobs is not None:
            self._logprobs.take(piece.tokens)
        for part in self._parser.feed(piece.text):
            yield from self._part(part)

    def _part(self, part: CompletionPart) -> Iterator[bytes]:
        match part:
            case TextPart(text):
                if self._open is None:
                    yield from self._begin_message()
                yield from self._grow_message(text)
            case ToolCallStart(_, call_id, name):
                yield from self._close()
                item = OutputCall(
                    id=item_id("fc", self._identifier, self._done),
                    call_id=call_id,
                    name=name,
                    arguments="",
                    status="in_progress",
                )
                yield from self._begin(item)
            case ArgumentsDelta(_, text):
                assert self._open is not None and isinstance(self._open.item, OutputCall)
                self._open.item.arguments += text
                yield self._event("response.function_call_arguments.delta", **self._place(), delta=text)

    def _close(self, status: Status = "completed") -> Iterator[bytes]:
        """The item that grows is done."""
        if self._open is None:
            return
        item, self._done = self._open.item, self._done + 1
        if isinstance(item, OutputCall):
            yield self._event(
                "response.function_call_arguments.done", **self._place(), name=item.name, arguments=item.arguments
            )
        else:
            (text,) = item.content
            logprobs = _of_events(text.logprobs)
            yield self._event(
                "response.output_text.done", **self._place(), content_index=0, text=text.text, logprobs=logprobs
            )
            yield self._event("response.content_part.done", **self._place(), content_index=0, part=text.model_dump())
        item.status = status
        yield self._event("response.output_item.done", output_index=self._open.index, item=item.model_dump())
        self._open = None

    def end(self, status: Status) -> Iterator[bytes]:
        """The events that end the response. One without any item is an empty text."""
        for part in self._parser.end():
            yield from self._part(part)
        if self._open is None and not self._done:
            yield from self._begin_message()
        if self._logprobs is not None and not self._parser.calls and not self._parser.cut:
            logprobs = self._logprobs.rest()
            if logprobs:
                yield self._delta("", logprobs)
        yield from self._close(status)

    def _begin(self, item: OutputMessage | OutputCall) -> Iterator[bytes]:
        self._open = _Open(item, self._done)
        yield self._event("response.output_item.added", output_index=self._open.index, item=item.model_dump())

    def _begin_message(self) -> Iterator[bytes]:
        item = OutputMessage(id=item_id("msg", self._identifier, self._done), status="in_progress", content=[])
        yield from self._begin(item)
        item.content.append(OutputText(text=""))
        part = item.content[0].model_dump()
        yield self._event("response.content_part.added", **self._place(), content_index=0, part=part)

    def _grow_message(self, text: str) -> Iterator[bytes]:
        assert self._open is not None and isinstance(self._open.item, OutputMessage)
        content = self._open.item.content[0]
        content.text += text
        yield self._delta(text, [] if self._logprobs is None else self._logprobs.until(len(content.text)))

    def _delta(self, text: str, logprobs: list[TokenLogprob]) -> bytes:
        assert self._open is not None and isinstance(self._open.item, OutputMessage)
        self._open.item.content[0].logprobs += logprobs
        fields = {"content_index": 0, "delta": text, "logprobs": _of_events(logprobs)}
        return self._event("response.output_text.delta", **self._place(), **fields)

    def _place(self) -> dict[str, Any]:
        assert self._open is not None
        return {"item_id": self._open.item.id, "output_index": self._open.index}

    def _event(self, kind: str, **fields: Any) -> bytes:
        body = {"type": kind, "sequence_number": next(self._number), **fields}
        data = json.dumps(body, allow_nan=False, separators=(",", ":"))
        return f"event: {kind}\ndata: {data}\n\n".encode("ascii")


def _of_events(logprobs: list[TokenLogprob]) -> list[dict[str, Any]]:
    """As OpenAI's events have them: without the bytes."""
    without = {"bytes": True, "top_logprobs": {"__all__": {"bytes"}}}
    return [logprob.model_dump(exclude=without) for logprob in logprobs]
