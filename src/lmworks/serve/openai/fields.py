"""What the bodies of requests are made of: texts that are Unicode, lists and objects of bounded size."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

TOKENS = 100_000  # ids in one prompt; a model's context is the limit that matters
_MOST_KEYS = 64
_MOST_SCHEMA = 200_000  # characters of a JSON schema


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


class TextPart(Strict):
    type: Literal["text"]
    text: Text


def joined(content: str | list[Any] | None) -> str:
    """A content as one text, its parts joined by line breaks; nothing is an empty text."""
    if isinstance(content, str):
        return content
    return "\n".join(part.text for part in content or ())


_MOST_BIASES = 1024
LogitBias = Annotated[
    dict[Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,8})$")], Annotated[float, Field(ge=-100, le=100)]],
    Field(max_length=_MOST_BIASES),
    BeforeValidator(lambda value: bounded(value, _MOST_BIASES)),
]
