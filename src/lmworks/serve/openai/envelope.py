"""What the endpoints for text share: how they reply, the turn, the parts of an answer, and the end of one."""

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from lmworks.serve.authentication import KEY
from lmworks.serve.events import Finished
from lmworks.serve.openai.errors import ApiError
from lmworks.serve.openai.request_bodies import Drawn
from lmworks.serve.openai.response_bodies import FinishReason, PromptTokensDetails, Usage
from lmworks.serve.openai.sse_stream import EventStream, answered
from lmworks.serve.service import Service

Asking = TypeVar("Asking", bound=Drawn)


async def reply(
    request: Request,
    body: Asking,
    whole: Callable[[Service, Asking, str], Awaitable[Response]],
    events: Callable[[Service, Asking, str], AsyncGenerator[bytes, None]],
) -> Response:
    """The answer as the body asks for it: at once, or as events. Both are made of (service, body, client)."""
    service: Service = request.app.state.service
    client = client_of(request, body)
    if body.stream:
        return EventStream(events(service, body, client))
    return await answered(request, lambda: whole(service, body, client))


def turn_fields(body: Drawn, client: str) -> dict[str, Any]:
    """The fields of a `Turn` that say whose it is; who asks is the unit where `metadata` names none."""
    metadata = body.metadata
    return {
        "client": client,
        "priority": body.priority or 0,
        "conversation": (metadata and metadata.conversation) or "",
        "parent": (metadata and metadata.parent) or None,
        "unit": (metadata and metadata.unit) or body.asker,
    }


def client_of(request: Request, body: Drawn) -> str:
    """Among whom the model's time is shared: the keys that requests are made with, else what users call themselves."""
    return request.scope.get(KEY) or body.asker


def fresh_id() -> str:
    return secrets.token_hex(8)


def system_fingerprint(service: Service, name: str) -> str:
    """Changes when the weights, the tokenizer or, of the assistant, anything of the system changes."""
    return f"fp_{service.served(name).fingerprint[:16]}"


def finish_reason(finished: Finished, *, called: bool = False) -> FinishReason:
    """ "stop", "length", or "tool_calls" where it ended with whole calls (`called`).

    A completion that the server cut off to shut down is an error instead."""
    reason = finished.interaction.finish_reason
    if reason == "stop" and called:
        return "tool_calls"
    if reason == "stop" or reason == "length":
        return reason
    raise ApiError(503, "the server is shutting down and ended this completion", None, "shutting_down")


def usage(groups: Sequence[Sequence[Finished]]) -> Usage:
    """One group for each prompt, with its choices: a prompt counts once, however often it is completed."""
    prompt = sum(group[0].interaction.input_tokens for group in groups)
    completion = sum(one.interaction.output_tokens for group in groups for one in group)
    cached = sum(cached_tokens(group[0]) for group in groups)
    return usage_of(prompt, completion, cached)


def usage_of(prompt: int, completion: int, cached: int = 0) -> Usage:
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=cached),
    )


def cached_tokens(finished: Finished) -> int:
    """Tokens of the prompt that had been computed for earlier requests; 0 where no language model read it."""
    return (finished.completion and finished.completion.cached_tokens) or 0


def content(answer: BaseModel) -> dict[str, Any]:
    """As a dictionary, without the extra field where there is nothing to tell."""
    fields = answer.model_dump()
    if fields.get("lmworks") is None:
        fields.pop("lmworks", None)
    return fields
