"""The strict loader: what it accepts, what it refuses, and that it says where and what is allowed."""

import dataclasses
import datetime
import importlib
import pkgutil
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lmworks
from lmworks.config import (
    ConfigError,
    assign,
    described,
    from_mapping,
    line_of,
    parse_assignment,
    to_mapping,
    unknown,
)
from lmworks.recipe import _File as RecipeFile
from lmworks.stage import resolve
from lmworks.stages import STAGES

# Files of users that have no class in a module called config.
FILES = (
    "corpus.filtering.filter_policy:Policy evaluate.decision_tree:DecisionTree evaluate.judge:Rubric "
    "evaluate.task:Suite evaluate.task:Task feedback_loop:LoopConfig monitor.experiment:Experiment prompt.router:Router"
)
A_DATE = datetime.date(2026, 1, 1)  # a value of TOML that no config takes
# A type → values that are nearly of it, and what the error says is allowed.
NEARLY: dict[Any, tuple[tuple[Any, ...], str]] = {
    int: (("three", 1.5, True), "number"),
    float: (("three", True), "number"),
    bool: ((1, "true"), "true or false"),
    str: ((7, ["a"]), "string"),
    Path: ((7, True), "path"),
}


def loaded_classes() -> dict[type, None]:
    """Every dataclass that a recipe, a command line or a file of the user is loaded into, and those in their fields."""
    modules = [module.name for module in pkgutil.walk_packages(lmworks.__path__, "lmworks.")]
    members = [
        value
        for name in modules
        if name.endswith(".config")
        for value in vars(importlib.import_module(name)).values()
        if isinstance(value, type)
    ]
    stages = [resolve(stage.config) for stage in STAGES.values()]
    files = [resolve(f"lmworks.{reference}") for reference in FILES.split()]
    classes: dict[type, None] = {}
    waiting: list[Any] = [RecipeFile, *stages, *files, *members]
    while waiting:
        hint = waiting.pop()
        if dataclasses.is_dataclass(hint) and hint not in classes:
            classes[typing.cast(type, hint)] = None
            waiting += typing.get_type_hints(hint).values()
        waiting += typing.get_args(hint)
    return classes


def wrong_values(hint: Any) -> Iterator[tuple[Any, list[str]]]:
    """Values that a field of this type must not take, and words that the error must hold."""
    options = [option for option in typing.get_args(hint) if option is not type(None)]
    if hint in NEARLY:
        values, word = NEARLY[hint]
        yield from ((value, [word]) for value in (*values, A_DATE))
    elif typing.get_origin(hint) is Literal:
        yield from ((value, [str(option) for option in options]) for value in (f"{options[0]}!", A_DATE))
    elif dataclasses.is_dataclass(hint):
        yield 7, [each.name for each in dataclasses.fields(hint) if each.init]
    else:
        yield A_DATE, []


def test_every_config_refuses_unknown_keys_and_wrong_values_and_names_the_key_and_what_is_allowed():
    classes = loaded_classes()
    assert len(classes) > 140 and set(map(resolve, (stage.config for stage in STAGES.values()))) <= classes.keys()
    wrong: list[str] = []

    def check(cls: type, key: str, value: Any, words: list[str]) -> None:
        try:
            from_mapping(cls, {key: value}, ["file.toml"])
        except ConfigError as error:
            if error.path == ("file.toml", key) and all(word in str(error) for word in (key, *words)):
                return
            wrong.append(f"{cls.__name__}.{key} = {value!r}: {error}")
        else:
            wrong.append(f"{cls.__name__}.{key} = {value!r} is taken")

    for cls in classes:
        hints = typing.get_type_hints(cls)
        keys = [each.name for each in dataclasses.fields(cls) if each.init]
        check(cls, "no_such_key", 1, keys)
        for key in keys:
            check(cls, f"{key}_", 1, ["?"] if len(key) > 5 else [])
            for value, words in wrong_values(hints[key]):
                check(cls, key, value, words)
    assert wrong == []


@dataclass(frozen=True)
class Inner:
    size: int = 3
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Warm:
    degrees: float
    fan: bool = False
    kind: Literal["warm"] = "warm"


@dataclass(frozen=True)
class Cold:
    degrees: float = 5.0
    kind: Literal["cold"] = "cold"


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = Inner()
    rate: float = 0.5
    tags: tuple[str, ...] = ()
    folder: Path | None = None
    several: tuple[Inner, ...] = ()
    table: dict[str, int] = field(default_factory=dict)
    air: Cold | Warm = Warm(20.0, fan=True)
    rule: Literal["gopher", "c4"] | Literal[""] = ""
    value: str | int | float = 0

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError("rate must not be negative")


def test_what_is_loaded():
    """A table changes the keys that it names, and leaves the others as the field's default has them."""
    wrong = []
    for mapping, expected in [
        ({"inner": {"size": 7}, "tags": ["p", "q"]}, Outer("x", Inner(7), tags=("p", "q"))),
        ({"several": [{"kind": "b"}], "rate": 2}, Outer("x", rate=2.0, several=(Inner(kind="b"),))),
        ({"air": {"degrees": 22.0}}, Outer("x", air=Warm(22.0, True))),
        ({"air": {"fan": False}}, Outer("x", air=Warm(20.0, False))),
        ({"air": {"kind": "warm", "degrees": 1}}, Outer("x", air=Warm(1.0, True))),
        ({"air": {"kind": "cold"}}, Outer("x", air=Cold(5.0))),
        ({"rule": "c4"}, Outer("x", rule="c4")),
        *[({"value": value}, Outer("x", value=value)) for value in ("5M", 5, 2.0)],
    ]:
        loaded = from_mapping(Outer, {"name": "x", **mapping})
        if loaded != expected or type(loaded.value) is not type(expected.value):
            wrong.append((mapping, loaded))
    assert wrong == []


def test_a_default_of_two_levels_is_changed_where_the_table_says():
    @dataclass(frozen=True)
    class Street:
        first: Outer = Outer("corner", air=Warm(25.0, fan=True), rate=7.0)

    street = from_mapping(Street, {"first": {"air": {"fan": False}}})
    assert street.first == Outer("corner", air=Warm(25.0), rate=7.0)


def test_refuses_with_the_place_and_what_is_allowed():
    wrong = []
    for mapping, path, words in [
        ({"name": None}, "name", ["string"]),
        ({"inner": {"sise": 1}}, "inner.sise", ['"size"']),
        ({"size": 1}, "size", ['"inner.size"']),  # the table that has it
        ({"inner": {"kind": "c"}}, "inner.kind", ["'a', 'b'"]),
        ({"tags": "docs"}, "tags", ['["docs"]']),  # how to write one value where a list is wanted
        ({"several": [{"size": "1"}]}, "several.0.size", ["whole number"]),
        ({"table": {"k": "v"}}, "table.k", ["whole number"]),
        ({"rate": -1}, "", ["rate must not be negative"]),
        ({"air": {"degres": 1}}, "air.degres", ['"degrees"']),
        ({"air": {"kind": "wram"}}, "air.kind", ['"warm"', "cold"]),
        ({"air": {"kind": "cold", "fan": True}}, "air.fan", ["kind=warm"]),
        ({"air": {"degrees": "x"}}, "air.degrees", ["number"]),
        ({"rule": "gofer"}, "rule", ["'gopher', 'c4' or ''", "'gopher'?"]),
        *[
            ({"inner": {"size": value}}, "inner.size", ["whole number"])
            for value in ("1.0005k", "5X", "M", "-5M", "5 M", "1.5", "0M", "5MM", float("inf"), float("nan"))
        ],
    ]:
        with pytest.raises(ConfigError) as caught:
            from_mapping(Outer, {"name": "x", **mapping})
        if ".".join(caught.value.path) != path or not all(word in str(caught.value) for word in words):
            wrong.append((mapping, str(caught.value)))
    assert wrong == []
    with pytest.raises(ConfigError) as caught:
        from_mapping(Outer, {})
    assert caught.value.path == ("name",)


@given(
    st.builds(
        Outer,
        name=st.text(),
        inner=st.builds(Inner, size=st.integers(), kind=st.sampled_from(["a", "b"])),
        rate=st.floats(min_value=0, allow_infinity=False),
        tags=st.lists(st.text()).map(tuple),
        folder=st.none() | st.from_regex(r"[a-z]{1,8}", fullmatch=True).map(Path),
        several=st.lists(st.builds(Inner, size=st.integers())).map(tuple),
        table=st.dictionaries(st.text(), st.integers()),
        air=st.builds(Warm, st.floats(0, 1)) | st.builds(Cold, st.floats(0, 1)),
        value=st.text() | st.integers() | st.floats(allow_nan=False),
    )
)
def test_loading_inverts_dumping(value):
    assert from_mapping(Outer, to_mapping(value)) == value


def test_assignments_are_read_as_toml():
    expected = {
        "index.chunk.size=200": (("index", "chunk", "size"), 200),
        'a.b=["x", "y"]': (("a", "b"), ["x", "y"]),
        "a.b=plain words": (("a", "b"), "plain words"),
        "a.b=x=y": (("a", "b"), "x=y"),
        "a=true": (("a",), True),
        "a=null": (("a",), None),
        'a="null"': (("a",), "null"),
    }
    assert {text: parse_assignment(text) for text in expected} == expected
    for text in ("", "noequals", "=3", "a..b=3"):
        with pytest.raises(ConfigError, match=r"NAME\.key=value"):
            parse_assignment(text)


@given(st.integers(1, 10**6), st.sampled_from(["k", "K", "M", "m", "B", "G", "T"]))
def test_large_whole_numbers_are_written_short(number, letter):
    factor = {"K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12}[letter.upper()]
    assert from_mapping(Inner, {"size": f"{number}{letter}"}).size == number * factor
    path, value = parse_assignment(f"size={number / 1000}{letter}")
    assert path == ("size",) and from_mapping(Inner, {"size": value}).size == number * factor // 1000
    _, value = parse_assignment(f"size={number}e3")
    size = from_mapping(Inner, {"size": value}).size
    assert size == number * 1000 and type(size) is int


def test_assign_creates_tables_and_refuses_to_enter_a_value():
    mapping: dict = {"a": 1}
    assign(mapping, ("b", "c"), 2)
    assert mapping == {"a": 1, "b": {"c": 2}}
    with pytest.raises(ConfigError) as caught:
        assign(mapping, ("a", "c"), 2)
    assert caught.value.path == ("a",)


def test_line_of_finds_the_key_or_its_nearest_table():
    toml = 'name = "x"\n\n[stages.index]\nuse = "y"\nchunk.size = 3\n\n[stages."two words"]\nkey = 1\n'
    assert line_of(toml, ("stages", "index", "chunk", "size")) == 5
    assert line_of(toml, ("stages", "index", "missing")) == 3
    assert line_of(toml, ("stages", "two words", "key")) == 8
    assert line_of(toml, ("nowhere",)) is None


@dataclass(frozen=True)
class Part:
    """A part.

    size  how large
    """

    size: int = 3
    kind: Literal["a"] = "a"


@dataclass(frozen=True)
class OtherPart:
    kind: Literal["b"] = "b"


@dataclass(frozen=True)
class Base:
    """What others begin with.

    rate      how fast, at
              0.5 a second. Not slower.
    """

    rate: float = 0.5


@dataclass(frozen=True)
class Whole(Base):
    """Of no use, but for what it says.

    name      of it, e.g. a word.
    tags      several; none at first
    table     -> what is counted.
    part      what is in it
    """

    name: str = "x"
    tags: tuple[str, ...] = ("a", "ä")
    table: dict[str, int] = field(default_factory=dict)
    part: Part | OtherPart = Part(size=7)


def test_the_docstring_describes_the_fields_and_the_defaults_can_be_set():
    """A field that is a table by its keys, with the defaults that they have there."""
    assert described(Whole) == {
        "rate": ("0.5", "how fast, at 0.5 a second. Not slower"),
        "name": ('"x"', "of it, e.g. a word"),
        "tags": ('["a", "ä"]', "several; none at first"),
        "table": ("{}", "-> what is counted"),
        "part.size": ("7", "how large"),
        "part.kind": ('"a"', "`a` or `b`, each with settings of its own"),
    }
    settings: dict[str, Any] = {}
    for key, (default, _) in described(Whole).items():
        assign(settings, *parse_assignment(f"{key}={default}"))
    assert from_mapping(Whole, settings) == Whole()
    with pytest.raises(ValueError, match=r"Outer .* name"):
        described(Outer)


def test_what_begins_with_an_unknown_name_is_meant():
    allowed = ["train.sweep", "train.pretrain", "corpus.read", "strain"]
    assert '"train.sweep" or "train.pretrain"?' in unknown("stage", "train", allowed)
    assert '"strain"?' in unknown("stage", "strian", allowed)
    assert "?" not in unknown("stage", "", allowed)
