"""The parts of requests that are about functions and about the form of an answer, as OpenAI's two APIs write them."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from lmworks.serve.openai.fields import Identifier, NonEmpty, Schema, Strict, Text

TOOLS = 128  # functions of one request
CALLS = 128  # of one message
_DEEPEST = 100

FunctionName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


def object_of(arguments: str) -> dict[str, Any]:
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
    """How many objects and arrays lie inside each other."""
    depth, inner = 0, [value]
    while inner := [one for one in inner if isinstance(one, (dict, list))]:
        depth += 1
        inner = [item for one in inner for item in (one.values() if isinstance(one, dict) else one)]
    return depth


def _arguments(text: str) -> str:
    object_of(text)
    return text


ArgumentsText = Annotated[Text, AfterValidator(_arguments)]


ParsedArguments = Annotated[Any, Field(description="without effect: the official client puts it beside `arguments`")]


class FunctionDefinition(Strict):
    """A function. Without `parameters` it takes none; arguments always keep to them, whatever `strict` says."""

    name: FunctionName
    description: Text | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class FunctionTool(Strict):
    type: Literal["function"]
    function: FunctionDefinition


class ChosenFunction(Strict):
    name: FunctionName


class ChosenTool(Strict):
    type: Literal["function"]
    function: ChosenFunction


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
    """What the answer must be, beyond OpenAI, as vLLM names it: exactly one of these."""

    json_: Schema | None = Field(default=None, alias="json")
    regex: NonEmpty | None = None
    choice: Annotated[list[NonEmpty], Field(min_length=1, max_length=1000, fail_fast=True)] | None = None
    grammar: NonEmpty | None = None

    @model_validator(mode="after")
    def _one(self) -> "StructuredOutputs":
        if sum(value is not None for value in (self.json_, self.regex, self.choice, self.grammar)) != 1:
            raise ValueError("structured_outputs needs exactly one of json, regex, choice, grammar")
        return self
