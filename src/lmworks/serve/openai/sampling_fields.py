"""OpenAI's sampling parameters as the engine's."""

from collections.abc import Mapping
from dataclasses import replace

from lmworks.generate.constraint import Constraint
from lmworks.generate.protocol import SamplingParameters
from lmworks.serve.config import ServeConfig
from lmworks.serve.openai.errors import ApiError
from lmworks.serve.openai.request_bodies import ChatRequest, CompletionRequest, Drawn, Sampled
from lmworks.serve.openai.response_format import constraint_of
from lmworks.serve.openai.responses_api.response_requests import ResponseRequest
from lmworks.serve.served_models import ASSISTANT

CHAT_TOKENS = 1024  # when a chat does not say how long; the end of the context cuts it earlier
COMPLETION_TOKENS = 16  # OpenAI's own default for text completions


def of_chat(body: ChatRequest, constraint: Constraint | None) -> SamplingParameters:
    """OpenAI's defaults where nothing is said: temperature 1, and a bounded rest of the context."""
    tokens = body.max_completion_tokens or body.max_tokens or CHAT_TOKENS
    return _of(body, tokens, body.top_logprobs or 0, constraint)


def of_completion(body: CompletionRequest) -> SamplingParameters:
    """As `of_chat`; with `max_tokens` 0 there is nothing to sample, and the one token asked for here is not made."""
    tokens = COMPLETION_TOKENS if body.max_tokens is None else body.max_tokens
    return _of(body, max(1, tokens), body.logprobs or 0, constraint_of(body.structured_outputs))


def _of(body: Sampled, max_tokens: int, alternatives: int, constraint: Constraint | None) -> SamplingParameters:
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    return replace(
        of_drawn(body, max_tokens, constraint),
        stop=stop,
        alternatives=alternatives,
        frequency_penalty=body.frequency_penalty or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        logit_bias={int(token): bias for token, bias in (body.logit_bias or {}).items()},
    )


def of_response(body: ResponseRequest, constraint: Constraint | None) -> SamplingParameters:
    """As `of_chat`."""
    drawn = of_drawn(body, body.max_output_tokens or CHAT_TOKENS, constraint)
    return replace(drawn, alternatives=body.top_logprobs or 0)


def of_drawn(body: Drawn, max_tokens: int, constraint: Constraint | None) -> SamplingParameters:
    """What every request can say of how tokens are drawn."""
    return SamplingParameters(
        max_tokens=max_tokens,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_k=max(0, body.top_k or 0),
        top_p=1.0 if body.top_p is None else body.top_p,
        min_p=body.min_p or 0.0,
        typical_p=1.0 if body.typical_p is None else body.typical_p,
        repetition_penalty=body.repetition_penalty or 1.0,
        seed=body.seed,
        ignore_eos=bool(body.ignore_eos),
        constraint=constraint,
    )


def chat_asks_for(body: ChatRequest) -> dict[str, bool]:
    """What a chat asks for beyond the parameters that all requests share, for `refuse_for_assistant`."""
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


def refuse_for_assistant(body: Drawn, further: Mapping[str, bool]) -> None:
    """The grounded assistant quotes and decides: what would shape sampled text is refused, if it is not neutral.

    `temperature`, `top_p`, `max_tokens` and `seed` pass without effect, because clients always send them. `further`
    says of the request's other parameters by name whether they ask for something.
    """
    asked = {
        "top_k": (body.top_k or 0) > 0,
        "repetition_penalty": (body.repetition_penalty or 1.0) != 1.0,
        "ignore_eos": bool(body.ignore_eos),
        "min_p": bool(body.min_p),
        "typical_p": (body.typical_p or 1.0) != 1.0,
        "structured_outputs": body.structured_outputs is not None,
    }
    for name, given in {**asked, **further}.items():
        if given:
            raise ApiError(
                400,
                f"{name} is not supported by {ASSISTANT}, which gives one answer, of sentences from the documents; "
                "ask a language model instead (GET /v1/models lists them)",
                name,
                "unsupported_parameter",
            )
