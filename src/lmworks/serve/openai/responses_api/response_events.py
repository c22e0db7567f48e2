"""The events of a streamed response: each item of the output is added, grows, and is done, in the order of the text."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from lmworks.serve.events import Piece
from lmworks.serve.openai.errors import ApiError
from lmworks.serve.openai.response_bodies import TokenLogprob
from lmworks.serve.openai.responses_api.message_logprobs import MessageLogprobs
from lmworks.serve.openai.responses_api.response_objects import (
    OutputCall,
    OutputMessage,
    OutputText,
    ResponseObject,
    Status,
)
from lmworks.serve.openai.tool_call_parser import ArgumentsPiece, CallBegins, CallReader, Part, Words


@dataclass(slots=True)
class _Open:
    """The item that grows, and where it stands in the output."""

    item: OutputMessage | OutputCall
    index: int


class ResponseEvents:
    """Server-sent events of one response, whose text `reader` reads.

    `identifier` names its items; `logprobs` None tells none.
    """

    def __init__(self, reader: CallReader, identifier: str, logprobs: MessageLogprobs | None) -> None:
        self._reader, self._identifier, self._logprobs = reader, identifier, logprobs
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
        """What one piece of the completion brings."""
        if self._logprobs is not None:
            self._logprobs.take(piece.tokens)
        for part in self._reader.feed(piece.text):
            yield from self._part(part)

    def _part(self, part: Part) -> Iterator[bytes]:
        match part:
            case Words(text):
                if self._open is None:
                    yield from self._begin_message()
                yield from self._grow_message(text)
            case CallBegins(_, call_id, name):
                yield from self._close()
                item = OutputCall(
                    id=item_id("fc", self._identifier, self._done),
                    call_id=call_id,
                    name=name,
                    arguments="",
                    status="in_progress",
                )
                yield from self._begin(item)
            case ArgumentsPiece(_, text):
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
        """Everything is said. A response without any item is an empty text."""
        for part in self._reader.end():
            yield from self._part(part)
        if self._open is None and not self._done:
            yield from self._begin_message()
        if self._logprobs is not None and not self._reader.calls and not self._reader.cut:
            rest = self._logprobs.rest()
            if rest:
                yield self._delta("", rest)
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
    return [one.model_dump(exclude=without) for one in logprobs]


def item_id(kind: str, identifier: str, number: int) -> str:
    """The id of an item of the output; the same whenever the response is read."""
    return f"{kind}_{identifier}_{number}"
