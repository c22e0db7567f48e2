"""Errors in OpenAI's format, and what each error of the service becomes."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from jinja2 import TemplateError
from pydantic import BaseModel
from starlette.responses import JSONResponse

from lmworks.generate.constraint import CompilerBusyError, ConstraintError
from lmworks.generate.protocol import ContextLengthError, ParameterError, UnsupportedError
from lmworks.monitor.log import LogFullError
from lmworks.serve.events import BusyError, DeadlineError, FailedError, NotReadyError, UnknownModelError
from lmworks.tokenizer.jinja_template import ChatTemplateError

_LOGGER = logging.getLogger(__name__)
_PART = 10_000  # numbers that are written at once
_FEW = 16  # models in a list that may be long themselves, such as choices
_COMPILING_SECONDS = 5  # that the slowest constraint may take
CONSTRAINT = "lmworks.constraint"  # where the scope names the parameter that constrains the answer
_PROMPTS = {
    "/v1/chat/completions": "messages",
    "/v1/completions": "prompt",
    "/v1/embeddings": "input",
    "/v1/responses": "input",
}
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
    504: "timeout_error",
}


class ErrorDetail(BaseModel):
    """`param` names the field that is wrong, `code` the kind of error for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    error: ErrorDetail


class ApiError(Exception):
    """An answer that is an error: a status and what to say; `headers` such as Retry-After."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        kind = _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> "Json":
        return Json(self.body, self.status, self.headers)


class Json(JSONResponse):
    """JSON in ASCII: a lone surrogate in a document or a prompt travels as an escape instead of failing here."""

    def render(self, content: Any) -> bytes:
        return _dumps(content).encode("ascii")


class LargeJson(Json):
    """JSON of what may be megabytes, models in it too, for a thread: in parts, between which other threads run."""

    def render(self, content: Any) -> bytes:
        return "".join(self._parts(content)).encode("ascii")

    def _parts(self, value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield "{"
            for number, (name, item) in enumerate(value.items()):
                yield f"{',' if number else ''}{_dumps(name)}:"
                yield from self._parts(item)
            yield "}"
        elif isinstance(value, BaseModel):
            yield from self._parts(dict(value))
        elif isinstance(value, list) and value and isinstance(value[0], (dict, list, BaseModel)):
            small = len(value) > _FEW and isinstance(value[0], BaseModel)
            yield "["
            for number, item in enumerate(value):
                yield "," if number else ""
                yield from (_dumps(item.model_dump()),) if small else self._parts(item)
            yield "]"
        elif isinstance(value, list):
            slices = (_dumps(value[start : start + _PART])[1:-1] for start in range(0, len(value), _PART))
            yield f"[{','.join(slices)}]"
        else:
            yield _dumps(value)


def _dumps(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def from_exception(error: Exception, scope: Mapping[str, Any] = MappingProxyType({})) -> ApiError:
    """The answer to an exception of the service. An unexpected one is logged, and its details stay in the log.

    `scope` is that of the request: its path says how the prompt is named there.
    """
    prompt, constraint = _PROMPTS.get(scope.get("path", "")), scope.get(CONSTRAINT)
    match error:
        case ApiError():
            return error
        case BusyError():
            seconds = max(1, round(error.retry_after))
            return ApiError(429, str(error), None, "queue_full", {"Retry-After": str(seconds)})
        case LogFullError():
            return ApiError(
                503, "the interaction log cannot keep up; try again", None, "log_full", {"Retry-After": "1"}
            )
        case NotReadyError():
            return ApiError(503, str(error), None, "not_ready", {"Retry-After": "2"})
        case UnknownModelError():
            return ApiError(404, str(error), "model", "model_not_found")
        case DeadlineError():
            return ApiError(504, str(error), None, "deadline_exceeded")
        case FailedError(__cause__=ConstraintError() as cause):  # it grew too complex where the text had come to
            return ApiError(400, str(cause), constraint, "constraint_failed")
        case FailedError():
            _LOGGER.error("a model failed", exc_info=error)
            return ApiError(500, str(error), None, "model_failed")
        case CompilerBusyError():
            return ApiError(429, str(error), None, "queue_full", {"Retry-After": str(_COMPILING_SECONDS)})
        case ChatTemplateError(__cause__=cause) if cause is not None and type(cause) is not TemplateError:
            _LOGGER.warning("a chat template failed", exc_info=error)  # where it refused, it says itself why
            return ApiError(400, "the chat template of this model cannot write these messages", prompt)
        case ChatTemplateError():
            return ApiError(400, str(error), prompt, "invalid_value")
        case ContextLengthError():
            return ApiError(400, str(error), prompt, "context_length_exceeded")
        case ConstraintError() if constraint:
            return ApiError(400, f"{constraint}: {error}", constraint, "invalid_value")
        case ParameterError(parameter=name):
            return ApiError(400, str(error), prompt if name == "prompt" else name, "invalid_value")
        case ValueError() | UnsupportedError():
            return ApiError(400, str(error))
    _LOGGER.error("a request failed", exc_info=error)
    return ApiError(500, "an error inside the server; its log has the details", None, "internal_error")


def from_validation(errors: Sequence[Any], unsupported: Mapping[str, str], body: Any) -> ApiError:
    """One sentence on the first parameter that is wrong; `unsupported` says why a known one is not taken.

    Of a union, pydantic tells what each of its branches misses. The one that the client meant is the one that took the
    most of what was sent; where none took any, the sentence lists what they take.
    """
    paths = [_path(error, body) for error in errors]
    same = [number for number, path in enumerate(paths) if path[:1] == paths[0][:1]]
    furthest = max(same, key=lambda number: (len(paths[number]), [key for key in paths[number] if type(key) is int]))
    path, first = paths[furthest], errors[furthest]
    at_path = [errors[number] for number in same if paths[number] == path]
    name, param = str(path[0]) if path else "", ".".join(map(str, path)) or None
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is no JSON: {first.get('ctx', {}).get('error', 'it cannot be parsed')}")
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"unknown parameter: {param}", param, "unknown_parameter")
    if name in unsupported:
        return ApiError(400, f"{name} is not supported: {unsupported[name]}", name, "unsupported_parameter")
    if not path and first["type"] == "value_error":
        return ApiError(400, _sentence(at_path), getattr(first["ctx"]["error"], "parameter", None), "invalid_value")
    if not path:
        return ApiError(400, "the body must be a JSON object, sent with Content-Type: application/json")
    if first["type"] in ("missing", "union_tag_not_found"):
        return ApiError(400, f"missing parameter: {param}", param, "missing_required_parameter")
    return ApiError(400, f"{param}: {_sentence(at_path)}", param, "invalid_value")


def _path(error: Any, body: Any) -> list[str | int]:
    """The names and places that lead to what is wrong, without those of a union's branches, which pydantic adds."""
    where, *location = error["loc"]
    if where != "body":
        return location
    path: list[str | int] = []
    for key in location:
        if (isinstance(body, dict) and key in body) or (isinstance(body, list) and isinstance(key, int)):
            body = body[key]
            path.append(key)
    absent = error["type"] == "missing" or (error["type"] == "value_error" and error["input"] != body)
    if absent and location and location[-1:] != path[-1:]:
        path.append(location[-1])
    if error["type"].startswith("union_tag"):  # the field that tells the branches apart
        path.append(str(error["ctx"]["discriminator"]).strip("'"))
    return path


def _sentence(errors: Sequence[Any]) -> str:
    """The demand on one value, as pydantic says it: what a branch misses that takes its type, else what all take."""
    typed = [error for error in errors if not error["type"].endswith("_type")]
    sentences: dict[str, None] = {}
    for error in typed[:1] or errors:
        limits = error.get("ctx", {})
        match error["type"]:
            case "value_error":
                sentences[str(limits["error"])] = None
            case "union_tag_invalid":  # pydantic repeats what was sent
                sentences[f"Input should be {limits['expected_tags']}"] = None
            case _:
                sentences[error["msg"]] = None
    return ", or ".join(sentences)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of an endpoint for its OpenAPI document."""
    return {status: {"model": ErrorBody, "description": _DESCRIPTIONS[status]} for status in statuses}


def answers(model: type[BaseModel], stream: str = "") -> dict[int | str, dict[str, Any]]:
    """The responses of an endpoint that asks a model; `stream` says what is sent where the request wants events."""
    success: dict[str, Any] = {"model": model}
    if stream:
        success |= {"description": f"the whole, or with `stream` {stream}", "content": {"text/event-stream": {}}}
    return {200: success, **documented(400, 401, 403, 404, 413, 421, 429, 500, 503, 504)}


_DESCRIPTIONS = {
    400: "a parameter that is missing, wrong, unknown or not supported; `param` names it",
    401: "no API key, or one that is not known",
    403: "a request that comes from another site",
    404: "there is no such thing",
    413: "the body is larger than the limit",
    421: "the Host header names no host of this server",
    429: "the queue is full, or the limit of requests is reached; Retry-After says when to come again",
    500: "an error inside the server",
    503: "models are still loading, or the server is shutting down",
    504: "not finished before the deadline",
}
