"""The bodies of /v1/responses, as far as they are spoken here; strict like all of them (`openai/request_bodies.py`)."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from lmworks.generate.protocol import MOST_ALTERNATIVES
from lmworks.serve.openai.fields import TOKENS, Identifier, Name, NonEmpty, Nothing, Schema, Strict, Text, joined
from lmworks.serve.openai.request_bodies import CacheKey, Drawn
from lmworks.serve.openai.tool_fields import (
    TOOLS,
    ArgumentsText,
    FunctionDefinition,
    FunctionName,
    JsonObjectFormat,
    ParsedArguments,
    TextFormat,
    ToolMode,
)

ITEMS = 2000  # of one input
_Status = Literal["in_progress", "completed", "incomplete"]


class ContentPart(Strict):
    """A text of a person or of the model; in an answer that is sent back it has more, which is without effect."""

    type: Literal["input_text", "output_text"]
    text: Text
    annotations: Nothing | None = None
    logprobs: Annotated[list[dict[str, Any]], Field(max_length=TOKENS)] | None = None
    parsed: Any = Field(default=None, description="the official client puts it beside `text`")


Content = Text | Annotated[list[ContentPart], Field(min_length=1, max_length=1000, fail_fast=True)]


class MessageItem(Strict):
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    id: Identifier | None = None
    status: _Status | None = None
    phase: None = None

    @property
    def text(self) -> str:
        """The parts joined by line breaks."""
        return joined(self.content)


class CallItem(Strict):
    """A call that an earlier answer made."""

    type: Literal["function_call"]
    call_id: Identifier
    name: FunctionName
    arguments: ArgumentsText
    id: Identifier | None = None
    status: _Status | None = None
    caller: None = None
    namespace: None = None
    parsed_arguments: ParsedArguments = None


class CallResultItem(Strict):
    """What a call has brought."""

    type: Literal["function_call_output"]
    call_id: Identifier
    output: Content
    id: Identifier | None = None
    status: _Status | None = None

    @property
    def text(self) -> str:
        """The parts joined by line breaks."""
        return joined(self.output)


def _typed(item: Any) -> Any:
    """A message may leave out that it is one."""
    return {"type": "message", **item} if isinstance(item, dict) else item


Item = Annotated[MessageItem | CallItem | CallResultItem, Field(discriminator="type"), BeforeValidator(_typed)]


class FunctionTool(FunctionDefinition):
    type: Literal["function"]


class ChosenFunction(Strict):
    type: Literal["function"]
    name: FunctionName


class SchemaFormat(Strict):
    """A schema, which is always kept to, whatever `strict` says."""

    type: Literal["json_schema"]
    name: Annotated[Text, StringConstraints(max_length=64)] | None = None
    description: Text | None = None
    schema_: Schema = Field(alias="schema")
    strict: bool | None = None


class TextSettings(Strict):
    format: Annotated[TextFormat | JsonObjectFormat | SchemaFormat, Field(discriminator="type")] | None = None
    verbosity: None = None


class StreamOptions(Strict):
    include_obfuscation: Literal[False] | None = None


class ResponseRequest(Drawn):
    """A body of /v1/responses. `store` is about `GET /v1/responses/{id}`: the log has every interaction."""

    input: NonEmpty | Annotated[list[Item], Field(min_length=1, max_length=ITEMS, fail_fast=True)]
    instructions: Text | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    parallel_tool_calls: bool | None = None
    previous_response_id: Name | None = None
    prompt_cache_key: CacheKey | None = None
    store: bool | None = None
    stream_options: StreamOptions | None = None
    text: TextSettings | None = None
    tool_choice: ToolMode | ChosenFunction | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=TOOLS)] | None = None
    include: Annotated[list[Literal["message.output_text.logprobs"]], Field(max_length=16)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_ALTERNATIVES)] | None = None
    # Not supported, see UNSUPPORTED
    background: Literal[False] | None = None
    conversation: None = None
    max_tool_calls: None = None
    reasoning: None = None
    service_tier: Literal["auto", "default"] | None = None
    truncation: Literal["disabled"] | None = None

    @model_validator(mode="after")
    def _agrees(self) -> "ResponseRequest":
        if self.top_logprobs is not None and not self.include:
            raise ValueError('top_logprobs needs include to hold "message.output_text.logprobs"')
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream to be true")
        return self
