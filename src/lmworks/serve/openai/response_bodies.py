"""The bodies of OpenAI's answers, and the extra field `lmworks` that each of them may carry."""

from typing import Any, Literal

from pydantic import BaseModel, Field

FinishReason = Literal["stop", "length", "tool_calls"]
Extra = Field(
    default=None,
    description="What only this server tells: `interaction` (the id in its log), `seed`, `timings`; of the grounded "
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
    """Of every token the model chose, the one that ends the text included."""

    content: list[TokenLogprob]
    refusal: None = None


class AnsweredFunction(BaseModel):
    """`arguments` are the JSON text of an object; not whole when the answer ended with "length"."""

    name: str
    arguments: str


class AnsweredCall(BaseModel):
    id: str
    type: Literal["function"] = "function"
    function: AnsweredFunction


class AnswerMessage(BaseModel):
    """`content` is null where the answer is nothing but calls."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[AnsweredCall] | None = None


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
    kind: Literal["assistant", "language", "embedding"]
    context_length: int | None
    fingerprint: str


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]
