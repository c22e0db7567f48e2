"""The fields of request bodies: texts that are Unicode, lists and objects of bounded size, functions, formats."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

TOKENS = 100_000  # ids in one prompt; a model's context is the limit that matters
TOOLS = 128  # functions of one request
CALLS = 128  # of one message
_MOST_KEYS = 64
_MOST_BIASES = 1024
_MOST_SCHEMA = 200_000  # characters of a JSON schema
_DEEPEST = 100  # objects and arrays in each other, in the arguments of a call


class Strict(BaseModel):
    """No unknown keys, no conversions: "1" is no number here."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _few_keys(cls, value: Any) -> Any:
        return bounded(value, _MOST_KEYS)


def bounded(value: Any, most: int) -> Any:
    """Refuse a large object before an error is made of each of its keys."""
    if isinstance(value, dict) and len(value) > most:
        raise ValueError(f"an object of {len(value)} keys; at most {most} are read")
    return value


def _unicode(text: str) -> str:
    """JSON can write half of a surrogate pair, which is no character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the text holds a lone surrogate, which is no character") from None
    return text


def no_image(part: Any) -> Any:
    """Refuse a part of a content that is an image."""
    if isinstance(part, dict) and part.get("type") in ("image_url", "input_image"):
        raise ValueError("images are not supported by this model")
    return part


def _schema(value: dict[str, Any]) -> dict[str, Any]:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise ValueError("the JSON schema is nested too deeply") from None
    _unicode(text)
    if len(text) > _MOST_SCHEMA:
        raise ValueError(f"a JSON schema of {len(text)} characters; at most {_MOST_SCHEMA} are read")
    return value


Text = Annotated[str, AfterValidator(_unicode)]
NonEmpty = Annotated[Text, StringConstraints(min_length=1)]
ShortText = Annotated[Text, StringConstraints(max_length=512)]
Name = Annotated[Text, StringConstraints(max_length=64)]
Identifier = Annotated[Text, StringConstraints(min_length=1, max_length=128)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Nothing = Annotated[list[None], Field(max_length=0)]
TokenIds = Annotated[list[TokenId], Field(min_length=1, max_length=TOKENS, fail_fast=True)]
Schema = Annotated[dict[str, Any], AfterValidator(_schema), Field(description="a JSON schema")]


LogitBias = Annotated[
    dict[Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,8})$")], Annotated[float, Field(ge=-100, le=100)]],
    Field(max_length=_MOST_BIASES),
    BeforeValidator(lambda value: bounded(value, _MOST_BIASES)),
]


class TextContentPart(Strict):
    type: Literal["text"]
    text: Text


def joined(content: str | list[Any] | None) -> str:
    """A content as one text, its parts joined by line breaks; nothing is an empty text."""
    if isinstance(content, str):
        return content
    return "\n".join(part.text for part in content or ())


# ---------------------------------------------------------------------------------------------------------------------
# Functions and the form of an answer, as both of OpenAI's APIs write them

FunctionName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


def to_tool_call(identifier: str, name: str, arguments: str) -> dict[str, Any]:
    """A call as `Message.tool_calls` and chat templates have it; ValueError as of `arguments_object`."""
    function = {"name": name, "arguments": arguments_object(arguments)}
    return {"id": identifier, "type": "function", "function": function}


def arguments_object(arguments: str) -> dict[str, Any]:
    """The arguments of a call as chat templates and the log take them.

    ValueError for what is no object, and for what could not be written or read again: numbers beyond floats, half
    characters, objects inside of objects by the hundred.
    """
    try:
        value = json.loads(arguments)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or _depth(value) > _DEEPEST:
        raise ValueError(
            "the arguments of a call are the JSON text of an object, of finite numbers and of Unicode, nested "
            f"{_DEEPEST} deep at most"
        )
    return value


def _depth(value: Any) -> int:
    """The number of objects and arrays that lie inside each other."""
    depth, inner = 0, [value]
    while inner := [container for container in inner if isinstance(container, (dict, list))]:
        depth += 1
        inner = [item for outer in inner for item in (outer.values() if isinstance(outer, dict) else outer)]
    return depth


def _arguments(text: str) -> str:
    arguments_object(text)
    return text


ArgumentsText = Annotated[Text, AfterValidator(_arguments)]


ParsedArguments = Annotated[Any, Field(description="without effect: the official client puts it next to `arguments`")]


class FunctionDefinition(Strict):
    """A function. Without `parameters` it takes none; arguments always keep to them, whatever `strict` says."""

    name: FunctionName
    description: Text | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class FunctionTool(Strict):
    type: Literal["function"]
    function: FunctionDefinition


class ChosenName(Strict):
    name: FunctionName


class ChosenTool(Strict):
    type: Literal["function"]
    function: ChosenName


ToolMode = Literal["none", "auto", "required"]


class CalledFunction(Strict):
    name: FunctionName
    arguments: ArgumentsText
    parsed_arguments: ParsedArguments = None


class ToolCall(Strict):
    """A call that an earlier answer made."""

    id: Identifier
    type: Literal["function"]
    function: CalledFunction


class TextFormat(Strict):
    type: Literal["text"]


class JsonObjectFormat(Strict):
    """Any JSON object."""

    type: Literal["json_object"]


class NamedSchema(Strict):
    """A schema, which is always kept to, whatever `strict` says. `name` and `description` are for the reader."""

    name: Annotated[Text, StringConstraints(max_length=64)] | None = None
    description: Text | None = None
    schema_: Schema = Field(alias="schema")
    strict: bool | None = None


class JsonSchemaFormat(Strict):
    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class StructuredOutputs(Strict):
    """The form of the answer, beyond OpenAI, as vLLM names it: exactly one of the first four."""

    json_: Schema | None = Field(default=None, alias="json")
    regex: NonEmpty | None = None
    choice: Annotated[list[NonEmpty], Field(min_length=1, max_length=1000, fail_fast=True)] | None = None
    grammar: NonEmpty | None = None
    disable_any_whitespace: bool = True  # between the parts of JSON

    @model_validator(mode="after")
    def _one(self) -> "StructuredOutputs":
        if sum(value is not None for value in (self.json_, self.regex, self.choice, self.grammar)) != 1:
            raise ValueError("structured_outputs needs exactly one of json, regex, choice, grammar")
        return self
