"""Errors in OpenAI's format, and what each error of the service becomes."""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from lmworks.generate.constraint import CompilerBusyError, ConstraintError
from lmworks.generate.protocol import UnsupportedError
from lmworks.monitor.log import LogFullError
from lmworks.serve.events import BusyError, DeadlineError, FailedError, NotReadyError, UnknownModelError

_LOGGER = logging.getLogger(__name__)
_COMPILING_SECONDS = 5  # that the slowest constraint may take
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
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def from_exception(error: Exception) -> ApiError:
    """The answer to an exception of the service. What is not foreseen is logged, and told without its details."""
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
            return ApiError(400, str(cause), None, "constraint_failed")
        case FailedError():
            _LOGGER.error("a model failed", exc_info=error)
            return ApiError(500, str(error), None, "model_failed")
        case CompilerBusyError():
            return ApiError(429, str(error), None, "queue_full", {"Retry-After": str(_COMPILING_SECONDS)})
        case ValueError() | UnsupportedError():
            return ApiError(400, str(error))
    _LOGGER.error("a request failed", exc_info=error)
    return ApiError(500, "an error inside the server; its log tells more", None, "internal_error")


def from_validation(errors: Sequence[Any], unsupported: Mapping[str, str]) -> ApiError:
    """The first of pydantic's errors as one sentence; `unsupported` says why a known parameter is not taken."""
    first = errors[0]
    path = list(first["loc"][1:])  # without where it was found: in the body, in the query
    name = str(path[0]) if path else ""
    param = ".".join(str(part) for part in path if not _is_branch(part)) or None
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is no JSON: {first.get('ctx', {}).get('error', 'it cannot be parsed')}")
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"unknown parameter: {param}", param, "unknown_parameter")
    if name in unsupported:
        return ApiError(400, f"{name} is not supported: {unsupported[name]}", name, "unsupported_parameter")
    if not path and first["type"] == "value_error":
        return ApiError(400, _sentence(errors, path), None, "invalid_value")
    if not path:
        return ApiError(400, "the body must be a JSON object, sent with Content-Type: application/json")
    if first["type"] == "missing":
        return ApiError(400, f"missing parameter: {param}", param, "missing_required_parameter")
    return ApiError(400, f"{param}: {_sentence(errors, path)}", param, "invalid_value")


def _sentence(errors: Sequence[Any], path: Sequence[Any]) -> str:
    """pydantic's message, or those of all branches of a union, without the words for Python's own type names."""
    same = [error for error in errors if error["loc"][1:2] == tuple(path[:1])]
    messages = dict.fromkeys(str(error["msg"]).removeprefix("Value error, ") for error in same[:8])
    return "; or ".join(messages)


def _is_branch(part: Any) -> bool:
    """pydantic puts the branch of a union into the path: `str`, `list[int]`, `constrained-str`."""
    return isinstance(part, str) and (part in ("str", "int", "float", "bool") or "[" in part or "-" in part)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of an endpoint for its OpenAPI document."""
    return {status: {"model": ErrorBody, "description": _DESCRIPTIONS[status]} for status in statuses}


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


def as_response(error: Exception) -> Response:
    return from_exception(error).response()
