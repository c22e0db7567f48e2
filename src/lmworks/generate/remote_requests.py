"""A request as an OpenAI-compatible endpoint takes it; what it cannot take is refused, never left out."""

import json
import secrets
from collections.abc import Collection, Mapping
from typing import Any

from lmworks.generate.constraint import Choice, Constraint, Grammar, JsonSchema, Regex
from lmworks.generate.protocol import Request, SamplingParameters, UnsupportedError
from lmworks.records import Message

# Sampling parameters beyond OpenAI's, by the names that vLLM and SGLang give them (typical_p: TGI), and where each is
# off.
_BEYOND = {"top_k": 0, "min_p": 0.0, "typical_p": 1.0, "repetition_penalty": 1.0, "ignore_eos": False}
EXTENSIONS = (*_BEYOND, "structured_outputs", "priority")


def request_body(
    request: Request, model: str, extensions: Collection[str], logprobs: bool
) -> tuple[str, dict[str, Any]]:
    """Path and body of a request; `logprobs` asks for those of the tokens.

    UnsupportedError for what has no place in the format, or is an extension that is not among `extensions`.
    """
    _check(request)
    sampling = request.sampling
    beyond = {name: getattr(sampling, name) for name, off in _BEYOND.items() if getattr(sampling, name) != off}
    if sampling.constraint is not None:
        beyond["structured_outputs"] = _structured(sampling.constraint)
    if request.priority:
        beyond["priority"] = request.priority
    for name in beyond:
        if name not in extensions:
            raise UnsupportedError(
                f"{name} is no part of OpenAI's format; if the endpoint understands it, make the engine with "
                f"extensions=({name!r},)"
            )
    body = {"model": model, **_standard(sampling), **({"user": request.client} if request.client else {}), **beyond}
    if request.prompt_ids:
        count = {"logprobs": sampling.alternatives} if logprobs else {}
        return "/completions", {**body, **count, "prompt": list(request.prompt_ids)}
    told: dict[str, Any] = {"logprobs": True} if logprobs else {}
    if sampling.alternatives:
        told["top_logprobs"] = sampling.alternatives
    return "/chat/completions", {**body, **told, "messages": [_message(message) for message in request.messages]}


def _check(request: Request) -> None:
    """UnsupportedError for what no endpoint is told."""
    sampling = request.sampling
    asked = {
        "tools": (request.tools, "an endpoint tells calls apart from the text; use the openai client"),
        "adapter": (request.adapter, "an endpoint serves an adapter under a name of its own; give it as `model`"),
        "deadline": (request.deadline, "give the engine a `timeout`"),
        "banned_tokens": (sampling.banned_tokens, "use logit_bias with -100"),
        "forced_tokens": (sampling.forced_tokens, "put the beginning of the answer into the prompt"),
    }
    for name, (value, instead) in asked.items():
        if value:
            raise UnsupportedError(f"{name} is no part of OpenAI's format: {instead}, or the local Engine")


def _standard(sampling: SamplingParameters) -> dict[str, Any]:
    body: dict[str, Any] = {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": secrets.randbits(31) if sampling.seed is None else sampling.seed,
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    for name in ("frequency_penalty", "presence_penalty"):
        if value := getattr(sampling, name):
            body[name] = value
    if sampling.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    return body


def _structured(constraint: Constraint) -> Mapping[str, Any]:
    match constraint:
        case JsonSchema(schema):
            return {"json": json.loads(schema)}
        case Regex(pattern):
            return {"regex": pattern}
        case Choice(options):
            return {"choice": list(options)}
        case Grammar(source):
            return {"grammar": source}
    raise UnsupportedError(f"{type(constraint).__name__} is a constraint of the local Engine alone")


def _message(message: Message) -> dict[str, Any]:
    """OpenAI's format has the arguments of a call as JSON text."""
    fields: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        fields["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
            for call in message.tool_calls
        ]
    if message.name is not None:
        fields["name"] = message.name
    if message.tool_call_id is not None:
        fields["tool_call_id"] = message.tool_call_id
    return fields
