"""The bodies of OpenAI's requests, as far as they are spoken here: an unknown or unsupported parameter is an error.

A parameter that is not supported is declared with the value at which it has no effect, which clients do send, and
nothing else; `UNSUPPORTED` says why. Absent and null are the same, and where a list is taken, an empty one too.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from lmworks.generate.protocol import ParameterError
from lmworks.records import Message
from lmworks.serve.config import PROMPTS
from lmworks.serve.openai.request_fields import (
    CALLS,
    TOOLS,
    ChosenTool,
    FunctionTool,
    Identifier,
    LogitBias,
    Name,
    NonEmpty,
    Nothing,
    ResponseFormat,
    ShortText,
    Strict,
    StructuredOutputs,
    Text,
    TextContentPart,
    TokenIds,
    ToolCall,
    ToolMode,
    joined,
    no_image,
    to_tool_call,
)

INPUTS = 2048
STOPS = 32  # OpenAI takes 4; harnesses for evaluation send more

UNSUPPORTED = {
    "audio": "the models answer with text",
    "background": "an answer is waited for, or streamed",
    "conversation": "name it in metadata.conversation, or continue from previous_response_id",
    "function_call": "this is the old name of tool_choice",
    "functions": "this is the old name of tools",
    "include": 'of what can be included there is "message.output_text.logprobs"',
    "max_tool_calls": "there are no built-in tools; parallel_tool_calls false allows one call",
    "modalities": 'the models answer with text, ["text"]',
    "prediction": "there is no predicted output",
    "reasoning": "the models do not reason before they answer",
    "reasoning_effort": "the models do not reason before they answer",
    "service_tier": 'there is one tier, "auto" or "default"',
    "store": "every interaction is in the server's own log, and none is kept elsewhere: leave it out, or false",
    "suffix": "text is completed at its end only",
    "truncation": 'a conversation that is too long is refused, never cut; leave it out, or "disabled"',
    "verbosity": "say in the prompt how long the answer should be",
    "web_search_options": "nothing is searched on the web",
}

_LEAST_TEMPERATURE = 0.001


def _divisor(temperature: float) -> float:
    """Logits divided by less leave the range of float32, and the step that many requests share would fail."""
    if 0 < temperature < _LEAST_TEMPERATURE:
        raise ValueError(f"the temperature must be 0, or at least {_LEAST_TEMPERATURE}")
    return temperature


def _seed(seed: Any) -> Any:
    """-1 stands for a random seed elsewhere."""
    if isinstance(seed, int) and not 0 <= seed < 2**63:
        raise ValueError("a seed lies between 0 and 2^63 - 1; leave it out, or null, to have one drawn")
    return seed


_Part = Annotated[TextContentPart, BeforeValidator(no_image)]


class ChatMessage(Strict):
    """A message of text. `refusal`, `audio`, … are null or empty, as in an answer that a client sends back."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[_Part], Field(min_length=1, max_length=1000, fail_fast=True)] | None = Field(
        default=None, validate_default=True, description="null is an empty text, of the assistant alone"
    )
    name: Name | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=CALLS)] | None = Field(
        default=None, description="of the assistant alone: the calls that it made"
    )
    tool_call_id: Identifier | None = Field(
        default=None, validate_default=True, description="of role tool alone, and needed there: the call it answers"
    )
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Nothing | None = None
    parsed: Any = Field(default=None, description="without effect: the official client puts it next to `content`")

    @field_validator("content")
    @classmethod
    def _content_is_there(cls, content: Any, info: ValidationInfo) -> Any:
        if content is None and info.data.get("role") != "assistant":
            raise ValueError("content is missing; only a message of the assistant may be without")
        return content

    @field_validator("tool_calls")
    @classmethod
    def _assistant_calls(cls, calls: Any, info: ValidationInfo) -> Any:
        if calls and info.data.get("role") != "assistant":
            raise ValueError("tool_calls are made by the assistant alone")
        return calls

    @field_validator("tool_call_id")
    @classmethod
    def _tool_answers(cls, identifier: Any, info: ValidationInfo) -> Any:
        if (identifier is None) == (info.data.get("role") == "tool"):
            raise ValueError("tool_call_id names the call that a message of role tool answers; others have none")
        return identifier

    @property
    def text(self) -> str:
        """The parts joined by line breaks."""
        return joined(self.content)


class StreamOptions(Strict):
    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class Metadata(Strict):
    """Fields of the log next to a request: its conversation, the interaction before it, and the unit of experiments."""

    conversation: Name | None = None
    parent: Name | None = None
    unit: ShortText | None = None


class SamplingFields(Strict):
    """The fields of all requests for text: the model, and how tokens are sampled from it."""

    model: Text
    metadata: Metadata | None = None
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=2), AfterValidator(_divisor)] | None = None
    top_p: Annotated[float, Field(ge=0.001, le=1)] | None = None
    user: ShortText | None = None
    safety_identifier: ShortText | None = Field(default=None, description="the newer name of `user`")
    # Beyond OpenAI's, as vLLM names them (typical_p: as TGI does)
    top_k: Annotated[int, Field(ge=-1, description="-1 and 0 are off")] | None = None
    min_p: Annotated[float, Field(ge=0, le=1, description="0 is off")] | None = None
    typical_p: Annotated[float, Field(ge=0.001, le=1, description="1 is off")] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    ignore_eos: bool | None = None
    priority: Annotated[int, Field(ge=-(2**31), lt=2**31, description="smaller runs earlier")] | None = None
    structured_outputs: StructuredOutputs | None = None
    seed: Annotated[Annotated[int, Field(ge=0, lt=2**63)] | None, BeforeValidator(_seed)] = None

    @model_validator(mode="after")
    def _shared_fields_agree(self) -> "SamplingFields":
        if getattr(self, "stream_options", None) is not None and not self.stream:
            raise ParameterError("stream_options", "stream_options needs stream to be true")
        if self.user and self.safety_identifier and self.user != self.safety_identifier:
            raise ParameterError("safety_identifier", "give safety_identifier or its older name user, not both")
        return self

    @property
    def end_user(self) -> str:
        """The end user, as the client names them; "" when it does not."""
        return self.user or self.safety_identifier or ""


CacheKey = Annotated[ShortText, Field(description="without effect: equal beginnings are found")]


class CompletionFields(SamplingFields):
    """The fields that chats and text completions share."""

    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: LogitBias | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    stop: NonEmpty | Annotated[list[NonEmpty], Field(max_length=STOPS)] | None = None
    stream_options: StreamOptions | None = None


class ChatRequest(CompletionFields):
    """A body of /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2000, fail_fast=True)]
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=TOOLS)] | None = None
    tool_choice: ToolMode | ChosenTool | None = None
    parallel_tool_calls: bool | None = None
    prompt_cache_key: CacheKey | None = None
    # Not supported, see UNSUPPORTED
    audio: None = None
    function_call: Literal["none"] | None = None
    functions: Nothing | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
    prediction: None = None
    reasoning_effort: None = None
    service_tier: Literal["auto", "default"] | None = None
    store: Literal[False] | None = None
    verbosity: None = None
    web_search_options: None = None

    @model_validator(mode="after")
    def _fields_agree(self) -> "ChatRequest":
        if self.top_logprobs is not None and not self.logprobs:
            raise ParameterError("top_logprobs", "top_logprobs needs logprobs to be true")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            message = "give max_completion_tokens or its older name max_tokens, not both"
            raise ParameterError("max_completion_tokens", message)
        called: set[str] = set()
        for message in self.messages:
            called |= {call.id for call in message.tool_calls or ()}
            if message.tool_call_id is not None and message.tool_call_id not in called:
                sentence = f"messages: no message before has a tool call with the id {message.tool_call_id!r}"
                raise ParameterError("messages", sentence)
        return self


class CompletionRequest(CompletionFields):
    """A body of /v1/completions; `max_tokens` is 16 when absent, as OpenAI documents it."""

    prompt: (
        Text
        | TokenIds
        | Annotated[list[Text], Field(min_length=1, max_length=PROMPTS, fail_fast=True)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=PROMPTS, fail_fast=True)]
    )
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    best_of: (
        Annotated[int, Field(ge=1, le=16, description="completions made, of which the n best are returned")] | None
    ) = None
    suffix: None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """One entry for each prompt."""
        if isinstance(self.prompt, str) or isinstance(self.prompt[0], int):
            return [self.prompt]  # pyright: ignore[reportReturnType]
        return list(self.prompt)  # pyright: ignore[reportReturnType]

    @model_validator(mode="after")
    def _fields_agree(self) -> "CompletionRequest":
        if self.best_of is not None and self.best_of < (self.n or 1):
            message = "best_of must be at least n: so many completions are made, of which n are returned"
            raise ParameterError("best_of", message)
        if self.stream and (self.best_of or 1) > (self.n or 1):
            message = "best_of above n cannot be streamed: which are the best is known at their end"
            raise ParameterError("best_of", message)
        if self.max_tokens == 0 and not self.echo:
            message = "max_tokens 0 needs echo, which scores the prompt: otherwise there is nothing to answer"
            raise ParameterError("max_tokens", message)
        return self


class EmbeddingRequest(Strict):
    """A body of /v1/embeddings. Token ids are refused: the texts are encoded with what frames them for the model."""

    model: Text
    input: NonEmpty | Annotated[list[NonEmpty], Field(min_length=1, max_length=INPUTS, fail_fast=True)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, description="must equal the width of the model")] | None = None
    user: Annotated[ShortText | None, Field(description="without effect: the log does not say who asked")] = None


def to_messages(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """The messages of a body as those of the log and of chat templates.

    OpenAI's newer models call the system message "developer". The result of a call is named after its function.
    """
    called: dict[str, str] = {}
    rows: list[Message] = []
    for message in messages:
        calls = [to_tool_call(raw.id, raw.function.name, raw.function.arguments) for raw in message.tool_calls or ()]
        called |= {call["id"]: call["function"]["name"] for call in calls}
        role = "system" if message.role == "developer" else message.role
        name = message.name or called.get(message.tool_call_id or "")
        rows.append(Message(role, message.text, tuple(calls), name, message.tool_call_id))
    return tuple(rows)
