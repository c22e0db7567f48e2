"""The bodies of OpenAI's answers, and the fields that answers with text share: usage, finish reason, `lmworks`."""

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from lmworks.config import to_mapping
from lmworks.records import Answer, Interaction, Retrieved, Verdict
from lmworks.serve.events import Finished
from lmworks.serve.openai.errors import ApiError, Json, LargeJson
from lmworks.serve.served_models import Kind
from lmworks.serve.service import Service
from lmworks.serve.thread_offload import SHORT, run_off_loop

FinishReason = Literal["stop", "length", "tool_calls"]
Extra = Field(
    default=None,
    description="Fields of this server alone: `interaction` (the id in its log), `seed`, `timings`; of the grounded "
    "`assistant` also `confidence`, `abstained`, `citations`, `verdicts`, `nearest`, `lineage`; while a stream of it "
    "has no text yet, `progress`, the phase that begins.",
)


class PromptTokensDetails(BaseModel):
    """`cached_tokens` of the prompts had been computed for earlier requests."""

    cached_tokens: int


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class TopLogprob(BaseModel):
    """`bytes` joins to the text where a token is part of a character; null where the tokenizer does not tell."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """An entry for every token that the model chose, the one that ends the text included."""

    content: list[TokenLogprob]
    refusal: None = None


class AnswerFunction(BaseModel):
    """`arguments` are the JSON text of an object; not whole when the answer ended with "length"."""

    name: str
    arguments: str


class AnswerToolCall(BaseModel):
    id: str
    type: Literal["function"] = "function"
    function: AnswerFunction


class AnswerMessage(BaseModel):
    """`content` is null where the answer is nothing but calls."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[AnswerToolCall] | None = None


class ChatChoice(BaseModel):
    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str
    lmworks: dict[str, Any] | None = Extra


class FunctionDelta(BaseModel):
    name: str | None = None
    arguments: str


class CallDelta(BaseModel):
    """The first of a call has its `id` and `name`; the `arguments` of all join to its arguments."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta


class ChunkDelta(BaseModel):
    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[CallDelta] | None = None


class ChunkChoice(BaseModel):
    index: int
    delta: ChunkDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason | None = None


class ChatChunk(BaseModel):
    """One event of a stream; with `include_usage`, the last one has the usage and no choices."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    system_fingerprint: str
    lmworks: dict[str, Any] | None = Extra


class TextLogprobs(BaseModel):
    """Lists with an entry for each token. The first token of an echoed prompt has no log-probability: null."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class TextChoice(BaseModel):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None


class TextCompletion(BaseModel):
    """An answer, or an event of a stream: `finish_reason` is null until a choice is complete."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | None = None
    system_fingerprint: str
    lmworks: dict[str, Any] | None = Extra


class Embedding(BaseModel):
    """`embedding` is a list of numbers, or with base64 the bytes of little-endian float32."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["lmworks"] = "lmworks"
    kind: Kind
    context_length: int | None
    fingerprint: str


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


def lmworks_field(finished: Finished) -> dict[str, Any]:
    """The field `lmworks` of one choice: the grounds of an answer from documents, or what repeats a completion."""
    interaction = finished.interaction
    if finished.answer is None:
        return {"interaction": interaction.id, "seed": interaction.seed, "timings": dict(interaction.timings)}
    return _grounds(interaction, finished.answer)


def lmworks_field_of_all(choices: list[Finished]) -> dict[str, Any]:
    """The field `lmworks` of a request: that of its first choice; `choices` has each one's if there are several."""
    first = lmworks_field(choices[0])
    return first if len(choices) == 1 else {**first, "choices": [lmworks_field(choice) for choice in choices]}


def _grounds(interaction: Interaction, answer: Answer) -> dict[str, Any]:
    return {
        "interaction": interaction.id,
        "confidence": answer.confidence,
        "abstained": answer.abstained,
        "failure": interaction.error,
        "citations": [{"number": n, **_evidence(citation)} for n, citation in enumerate(answer.citations, start=1)],
        "verdicts": [{**_evidence(v), "verdict": v.verdict, "origin": v.origin} for v in answer.verdicts],
        "nearest": [_passage(passage) for passage in answer.nearest],
        "lineage": dict(answer.lineage),
        "timings": dict(interaction.timings),
    }


def _evidence(verdict: Verdict) -> dict[str, Any]:
    source = {**to_mapping(verdict.evidence), "uri": verdict.uri}
    return {**source, "text": verdict.text, "relevance": verdict.relevance, "support": verdict.support}


def _passage(passage: Retrieved) -> dict[str, Any]:
    source = {**to_mapping(passage.span), "uri": passage.uri}
    return {"chunk": passage.chunk, **source, "text": passage.text, "scores": dict(passage.scores)}


def fresh_id() -> str:
    return secrets.token_hex(8)


def answer_head(service: Service, identifier: str, model: str) -> dict[str, Any]:
    """The fields that all parts of an answer begin with; `system_fingerprint` changes with the weights, the tokenizer
    or, of the assistant, anything of the system."""
    fingerprint = f"fp_{service.models.named(model).fingerprint[:16]}"
    return {"id": identifier, "created": int(time.time()), "model": model, "system_fingerprint": fingerprint}


def finish_reason(finished: Finished, *, called: bool = False) -> FinishReason:
    """The reason "stop", "length", or "tool_calls" where it ended with whole calls (`called`).

    ApiError for a completion that the server cut off to shut down.
    """
    reason = finished.interaction.finish_reason
    if reason == "stop" and called:
        return "tool_calls"
    if reason == "stop" or reason == "length":
        return reason
    raise ApiError(503, "the server is shutting down and ended this completion", None, "shutting_down")


def usage(groups: Sequence[Sequence[Finished]]) -> Usage:
    """The tokens of a group of choices for each prompt: a prompt counts once, however often it is completed."""
    prompt = sum(group[0].interaction.input_tokens for group in groups)
    completion = sum(choice.interaction.output_tokens for group in groups for choice in group)
    cached = sum(cached_tokens(group[0]) for group in groups)
    return token_usage(prompt, completion, cached)


def token_usage(prompt: int, completion: int, cached: int = 0) -> Usage:
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=cached),
    )


def cached_tokens(finished: Finished) -> int:
    """Tokens of the prompt that had been computed for earlier requests; 0 where no language model read it."""
    return (finished.completion and finished.completion.cached_tokens) or 0


async def whole_answer(finished: Sequence[Finished], make: Callable[[], BaseModel]) -> Json:
    """The answer of these choices, which `make` builds; a long one is built and written on a thread."""
    return await large_answer(answer_length(finished), make)


def answer_length(finished: Sequence[Finished]) -> int:
    """Characters and log-probabilities of these choices."""
    rows = [choice.completion.tokens for choice in finished if choice.completion and choice.completion.tokens]
    numbers = sum(len(row) * (1 + len(row[0].alternatives)) for row in rows)
    return numbers + sum(len(choice.interaction.response) for choice in finished)


async def large_answer(length: int, make: Callable[[], BaseModel]) -> Json:
    """As `run_off_loop`: `length` is that of the answer."""
    return await run_off_loop(length, lambda: as_json(make(), large=length > SHORT))


def as_json(answer: BaseModel, *, large: bool) -> Json:
    """The body of an answer, see `LargeJson`."""
    if not large:
        return Json(body_fields(answer))
    return LargeJson({name: value for name, value in answer if name != "lmworks" or value is not None})


def body_fields(answer: BaseModel) -> dict[str, Any]:
    """A body as a dictionary, without the field `lmworks` where it is empty."""
    fields = answer.model_dump()
    if fields.get("lmworks") is None:
        fields.pop("lmworks", None)
    return fields
