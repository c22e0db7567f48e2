"""OpenAI's sampling parameters as the engine's, and the parameters that the grounded assistant refuses."""

import json
from collections.abc import Mapping
from typing import Any

from lmworks.generate.constraint import Choice, Constraint, Grammar, JsonSchema, Regex
from lmworks.generate.protocol import SamplingParameters
from lmworks.serve.config import ServeConfig
from lmworks.serve.openai.errors import ApiError
from lmworks.serve.openai.request_bodies import ChatRequest, CompletionFields, CompletionRequest, SamplingFields
from lmworks.serve.openai.request_fields import StructuredOutputs
from lmworks.serve.openai.responses_api.responses_bodies import ResponseRequest
from lmworks.serve.served_models import ASSISTANT

CHAT_TOKENS = 1024  # when a chat does not say how long; the end of the context cuts it earlier
COMPLETION_TOKENS = 16  # OpenAI's own default for text completions
_SAME_NAMES = (
    *("temperature", "top_p", "min_p", "typical_p", "repetition_penalty", "frequency_penalty", "presence_penalty"),
    *("seed", "ignore_eos"),
)


def chat_parameters(body: ChatRequest, constraint: Constraint | None) -> SamplingParameters:
    """OpenAI's defaults where nothing is said: temperature 1, and a bounded rest of the context."""
    tokens = body.max_completion_tokens or body.max_tokens or CHAT_TOKENS
    return _sampling_parameters(body, tokens, body.top_logprobs, constraint)


def completion_parameters(body: CompletionRequest) -> SamplingParameters:
    """As `chat_parameters`; with `max_tokens` 0 nothing is sampled, and the one token of the result is not made."""
    tokens = COMPLETION_TOKENS if body.max_tokens is None else max(1, body.max_tokens)
    return _sampling_parameters(body, tokens, body.logprobs, structured_output_constraint(body.structured_outputs))


def response_parameters(body: ResponseRequest, constraint: Constraint | None) -> SamplingParameters:
    """As `chat_parameters`."""
    return _sampling_parameters(body, body.max_output_tokens or CHAT_TOKENS, body.top_logprobs, constraint)


def _sampling_parameters(
    body: SamplingFields, max_tokens: int, alternatives: int | None, constraint: Constraint | None
) -> SamplingParameters:
    """Sampling parameters of the body: those under the engine's names, and those in another form."""
    stated: dict[str, Any] = {"temperature": 1.0}
    stated |= {name: value for name in _SAME_NAMES if (value := getattr(body, name, None)) is not None}
    if isinstance(body, CompletionFields):
        stated["stop"] = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
        stated["logit_bias"] = {int(token): bias for token, bias in (body.logit_bias or {}).items()}
    stated |= {"top_k": max(0, body.top_k or 0), "alternatives": alternatives or 0}
    return SamplingParameters(max_tokens, **stated, constraint=constraint)


def structured_output_constraint(outputs: StructuredOutputs | None) -> Constraint | None:
    """The one constraint of `structured_outputs`."""
    if outputs is None:
        return None
    if outputs.json_ is not None:
        return JsonSchema(json.dumps(outputs.json_, ensure_ascii=False), outputs.disable_any_whitespace)
    if outputs.regex is not None:
        return Regex(outputs.regex)
    if outputs.choice is not None:
        return Choice(tuple(outputs.choice))
    return Grammar(outputs.grammar or "")


def further_chat_parameters(body: ChatRequest) -> dict[str, bool]:
    """The further parameters of a chat, and whether they ask for something, for `refuse_for_assistant`."""
    return {
        "n": (body.n or 1) != 1,
        "logprobs": bool(body.logprobs),
        "stop": bool(body.stop),
        "logit_bias": bool(body.logit_bias),
        "frequency_penalty": bool(body.frequency_penalty),
        "presence_penalty": bool(body.presence_penalty),
        "response_format": body.response_format is not None and body.response_format.type != "text",
        "tools": bool(body.tools),
    }


def check_choices(n: int, config: ServeConfig) -> None:
    """ApiError for more choices than can be in flight: waiting would never make room for them."""
    most = config.slots + config.max_waiting
    if n > most:
        raise ApiError(
            400,
            f"n is {n}, but this server takes at most {most} choices: {config.slots} run at a time (serve.slots) and "
            f"{config.max_waiting} may wait (serve.max_waiting)",
            "n",
            "invalid_value",
        )


def refuse_for_assistant(body: SamplingFields, further: Mapping[str, bool]) -> None:
    """The grounded assistant quotes and decides: what would shape sampled text is refused, if it is not neutral.

    `temperature`, `top_p`, `max_tokens` and `seed` pass without effect, because clients always send them. `further`
    says of the request's other parameters by name whether they ask for something.
    """
    common = {
        "top_k": (body.top_k or 0) > 0,
        "repetition_penalty": (body.repetition_penalty or 1.0) != 1.0,
        "ignore_eos": bool(body.ignore_eos),
        "min_p": bool(body.min_p),
        "typical_p": (body.typical_p or 1.0) != 1.0,
        "structured_outputs": body.structured_outputs is not None,
    }
    for name, asked in {**common, **further}.items():
        if asked:
            raise ApiError(
                400,
                f"{name} is not supported by {ASSISTANT}, which gives one answer, of sentences from the documents; "
                "ask a language model instead (GET /v1/models lists them)",
                name,
                "unsupported_parameter",
            )
