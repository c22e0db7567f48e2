"""The schemas that pydantic writes of ordinary models: what is generated is read by the model."""

import datetime
import enum
import ipaddress
import json
import pathlib
import uuid
from typing import Annotated, Literal, Optional

import jsonschema
import pytest
from constrained_cases import sentence_piece_tokenizer, texts_of_walks
from pydantic import (
    UUID4,
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyAddress,
    IPvAnyInterface,
    IPvAnyNetwork,
    Json,
    SecretBytes,
    SecretStr,
    StringConstraints,
)

from kit.tables import for_each
from lmworks.generate.constrained_decoding import ConstraintCompiler
from lmworks.generate.constraint import JsonSchema


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog", "puppy"]
    owner: Optional["Dog"] = None


class Pets(BaseModel):
    one: Cat | Dog = Field(discriminator="kind")
    others: list[Annotated[Cat | Dog, Field(discriminator="kind")]]


class Sets(BaseModel):
    free: set[Annotated[str, StringConstraints(max_length=9)]]
    all_of_them: set[Colour] = Field(min_length=2)
    numbers: frozenset[Annotated[int, Field(ge=1, le=3)]] = Field(min_length=3)
    pairs: set[tuple[int, Literal["a", "b"]]]
    few: set[bool | None] = Field(min_length=1, max_length=2)


class Texts(BaseModel):
    path: pathlib.Path
    plain: bytes
    encoded: Base64Bytes
    secret: SecretStr
    secrets: SecretBytes
    version: UUID4
    lasts: datetime.timedelta
    since: datetime.datetime


class Addresses(BaseModel):
    some: IPvAnyAddress
    network: IPvAnyNetwork
    interface: IPvAnyInterface
    four: ipaddress.IPv4Network
    six: ipaddress.IPv6Network
    six_interface: ipaddress.IPv6Interface


class Keys(BaseModel):
    literal: dict[Literal["a", "b"], int]
    colours: dict[Colour, str]
    ids: dict[uuid.UUID, int]
    days: dict[datetime.date, int]
    short: dict[Annotated[str, StringConstraints(min_length=2, max_length=4)], int]


class Inner(BaseModel):
    model_config = ConfigDict(json_schema_extra={"$id": "https://example.org/inner.json"})
    cats: list[Cat]


class Outer(BaseModel):
    model_config = ConfigDict(json_schema_extra={"$id": "https://example.org/outer.json"})
    inner: Inner
    more: dict[str, Inner]


class Packed(BaseModel):
    any: Json
    numbers: Json[list[int]]
    cats: Json[dict[str, Cat]]


@for_each("model", [Pets, Sets, Texts, Addresses, Keys, Outer, Packed])
def test_what_is_generated_is_read_by_the_model(compiler, model):
    schema = model.model_json_schema()
    check = jsonschema.Draft202012Validator(schema)
    for text in texts_of_walks(compiler.compile(JsonSchema(json.dumps(schema))), count=40, least=30):
        model.model_validate_json(text)
        if model is not Outer:  # its references count from the root, as they do in none but pydantic's
            check.validate(json.loads(text))


@pytest.fixture(scope="module")
def compiler():
    tokenizer = sentence_piece_tokenizer()
    compiler = ConstraintCompiler(tokenizer, tokenizer.vocabulary_size, tokenizer.eos_ids, time_limit_seconds=20)
    yield compiler
    compiler.close()
