"""What an answer must be, as the engine's constraint."""

import json

from lmworks.generate.constraint import Choice, Constraint, Grammar, JsonSchema, Regex
from lmworks.serve.openai.errors import ApiError
from lmworks.serve.openai.responses_api.response_requests import SchemaFormat
from lmworks.serve.openai.tool_fields import JsonObjectFormat, JsonSchemaFormat, StructuredOutputs, TextFormat
from lmworks.serve.openai.tools import Toolbox, calls_of
from lmworks.tokenizer.tool_calls import ToolForm

AnswerFormat = TextFormat | JsonObjectFormat | JsonSchemaFormat | SchemaFormat


def answer_of(wanted: AnswerFormat | None, outputs: StructuredOutputs | None) -> Constraint | None:
    """What the words of an answer must be; None for free text. ApiError for two forms of one answer."""
    schema, constraint = _schema_of(wanted), constraint_of(outputs)
    if schema is not None and constraint is not None:
        raise ApiError(
            400,
            "give structured_outputs or another form of the answer (response_format, text.format), not both",
            "structured_outputs",
            "invalid_value",
        )
    return schema or constraint


def _schema_of(wanted: AnswerFormat | None) -> JsonSchema | None:
    """The schema that `response_format`, or `text.format` of a response, asks for; None for free text."""
    match wanted:
        case JsonObjectFormat():
            return JsonSchema('{"type": "object"}')
        case JsonSchemaFormat(json_schema=named) | (SchemaFormat() as named):
            return JsonSchema(json.dumps(named.schema_, ensure_ascii=False))
    return None


def constraint_of(outputs: StructuredOutputs | None) -> Constraint | None:
    """The one thing that `structured_outputs` asks for."""
    if outputs is None:
        return None
    if outputs.json_ is not None:
        return JsonSchema(json.dumps(outputs.json_, ensure_ascii=False))
    if outputs.regex is not None:
        return Regex(outputs.regex)
    if outputs.choice is not None:
        return Choice(tuple(outputs.choice))
    return Grammar(outputs.grammar or "")


def with_calls(answer: Constraint | None, box: Toolbox | None, form: ToolForm | None) -> Constraint | None:
    """The constraint of an answer that may hold calls; ApiError where the two cannot be joined."""
    if box is None or form is None:
        return answer
    if answer is not None and not isinstance(answer, JsonSchema):
        raise ApiError(
            400,
            "structured_outputs with tools takes json alone: other texts cannot be told apart from a call",
            "structured_outputs",
            "unsupported_parameter",
        )
    return calls_of(box, form, answer)
