"""The bodies of the answers and requests of /v1/responses, strict like all of them (`openai/request_bodies.py`)."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, model_validator

from lmworks.generate.protocol import MOST_ALTERNATIVES, ParameterError
from lmworks.serve.openai.request_bodies import CacheKey, SamplingFields
from lmworks.serve.openai.request_fields import (
    TOKENS,
    TOOLS,
    ArgumentsText,
    FunctionDefinition,
    FunctionName,
    Identifier,
    JsonObjectFormat,
    Name,
    NonEmpty,
    Nothing,
    ParsedArguments,
    Schema,
    Strict,
    Text,
    TextFormat,
    ToolMode,
    joined,
    no_image,
)
from lmworks.serve.openai.response_bodies import Extra, TokenLogprob

ITEMS = 2000  # of one input
Status = Literal["in_progress", "completed", "incomplete"]


class OutputText(BaseModel):
    """`logprobs` are of the tokens of the text, and of the one that ended it, where they were asked for."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[None] = Field(default_factory=list, max_length=0)
    logprobs: list[TokenLogprob] = Field(default_factory=list)


class OutputMessage(BaseModel):
    type: Literal["message"] = "message"
    id: str
    role: Literal["assistant"] = "assistant"
    status: Status
    content: list[OutputText]


class OutputCall(BaseModel):
    """`call_id` is what the result of the call names; `arguments` are the JSON text of an object."""

    type: Literal["function_call"] = "function_call"
    id: str
    call_id: str
    name: str
    arguments: str
    status: Status


OutputItem = Annotated[OutputMessage | OutputCall, Field(discriminator="type")]


class InputText(BaseModel):
    type: Literal["input_text"] = "input_text"
    text: str


class InputMessage(BaseModel):
    type: Literal["message"] = "message"
    id: str
    role: Literal["system", "user", "assistant"]
    status: Status
    content: list[InputText] | list[OutputText]


class InputCallOutput(BaseModel):
    type: Literal["function_call_output"] = "function_call_output"
    id: str
    call_id: str
    output: str
    status: Status


InputItem = Annotated[InputMessage | OutputCall | InputCallOutput, Field(discriminator="type")]


class ItemList(BaseModel):
    """A page of the items that a response was given, those of the responses before it included."""

    object: Literal["list"] = "list"
    data: list[InputItem]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedResponse(BaseModel):
    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


class IncompleteDetails(BaseModel):
    reason: Literal["max_output_tokens"] = "max_output_tokens"


class InputTokensDetails(BaseModel):
    """`cached_tokens` of the prompt had been computed for earlier requests."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(BaseModel):
    reasoning_tokens: int = 0


class ResponseUsage(BaseModel):
    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails = OutputTokensDetails()
    total_tokens: int


class ResponseObject(BaseModel):
    """An answer, with the request's own settings repeated; `output` is empty while it is in progress."""

    id: str
    object: Literal["response"] = "response"
    created_at: float
    completed_at: float | None = None
    status: Status
    error: None = None
    incomplete_details: IncompleteDetails | None = None
    model: str
    output: list[OutputItem] = Field(default_factory=list)
    usage: ResponseUsage | None = None
    instructions: str | None
    previous_response_id: str | None
    max_output_tokens: int | None
    temperature: float
    top_p: float
    text: dict[str, Any]
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any]
    parallel_tool_calls: bool
    metadata: dict[str, str]
    store: bool
    truncation: Literal["disabled"] = "disabled"
    background: Literal[False] = False
    top_logprobs: int
    user: str | None
    safety_identifier: str | None
    prompt_cache_key: str | None
    lmworks: dict[str, Any] | None = Extra


class ContentPart(Strict):
    """A text of a person or of the model; in an answer that is sent back it has more, which is without effect."""

    type: Literal["input_text", "output_text"]
    text: Text
    annotations: Nothing | None = None
    logprobs: Annotated[list[dict[str, Any]], Field(max_length=TOKENS)] | None = None
    parsed: Any = Field(default=None, description="the official client puts it next to `text`")


_Part = Annotated[ContentPart, BeforeValidator(no_image)]
Content = Text | Annotated[list[_Part], Field(min_length=1, max_length=1000, fail_fast=True)]


class MessageItem(Strict):
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    id: Identifier | None = None
    status: Status | None = None
    phase: None = None

    @property
    def text(self) -> str:
        """The parts joined by line breaks."""
        return joined(self.content)


class FunctionCallItem(Strict):
    """A call that an earlier answer made."""

    type: Literal["function_call"]
    call_id: Identifier
    name: FunctionName
    arguments: ArgumentsText
    id: Identifier | None = None
    status: Status | None = None
    caller: None = None
    namespace: None = None
    parsed_arguments: ParsedArguments = None


class FunctionCallOutputItem(Strict):
    """The result of a call."""

    type: Literal["function_call_output"]
    call_id: Identifier
    output: Content
    id: Identifier | None = None
    status: Status | None = None

    @property
    def text(self) -> str:
        """The parts joined by line breaks."""
        return joined(self.output)


def _typed(item: Any) -> Any:
    """A message may leave out that it is one."""
    return {"type": "message", **item} if isinstance(item, dict) else item


Item = Annotated[
    MessageItem | FunctionCallItem | FunctionCallOutputItem, Field(discriminator="type"), BeforeValidator(_typed)
]


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


class ResponseStreamOptions(Strict):
    include_obfuscation: Literal[False] | None = None


class ResponseRequest(SamplingFields):
    """A body of /v1/responses. `store` is about `GET /v1/responses/{id}`: the log has every interaction."""

    input: NonEmpty | Annotated[list[Item], Field(min_length=1, max_length=ITEMS, fail_fast=True)]
    instructions: Text | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    parallel_tool_calls: bool | None = None
    previous_response_id: Name | None = None
    prompt_cache_key: CacheKey | None = None
    store: bool | None = None
    stream_options: ResponseStreamOptions | None = None
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
    def _fields_agree(self) -> "ResponseRequest":
        if self.top_logprobs is not None and not self.include:
            message = 'top_logprobs needs include to hold "message.output_text.logprobs"'
            raise ParameterError("top_logprobs", message)
        return self


def item_id(kind: str, identifier: str, number: int) -> str:
    """The id of an item of the output; the same whenever the response is read."""
    return f"{kind}_{identifier}_{number}"
