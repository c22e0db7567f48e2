"""The strict loader: what it accepts, what it refuses, and that it says where and what is allowed."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@dataclass(frozen=True)
class Inner:
    size: int = 3
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = Inner()
    rate: float = 0.5
    tags: tuple[str, ...] = ()
    folder: Path | None = None
    several: tuple[Inner, ...] = ()
    table: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError("rate must not be negative")


def test_builds_nested_dataclasses_with_their_defaults():
    built = from_mapping(Outer, {"name": "x", "inner": {"size": 7}, "tags": ["p", "q"], "several": [{"kind": "b"}]})
    assert built == Outer("x", Inner(7), tags=("p", "q"), several=(Inner(kind="b"),))


@pytest.mark.parametrize(
    ("mapping", "path", "problem"),
    [
        ({}, "name", "missing"),
        ({"name": 3}, "name", "expected a string, got 3"),
        ({"name": "x", "inner": {"sise": 1}}, "inner.sise", 'did you mean "size"?'),
        ({"name": "x", "size": 1}, "size", 'did you mean "inner.size"?'),
        ({"name": "x", "inner": {"kind": "c"}}, "inner.kind", "'a', 'b'"),
        ({"name": "x", "inner": {"size": True}}, "inner.size", "expected a whole number"),
        ({"name": "x", "inner": {"size": 1.5}}, "inner.size", "expected a whole number"),
        ({"name": "x", "tags": "p"}, "tags", "a list of a string"),
        ({"name": "x", "several": [{"size": "1"}]}, "several.0.size", "expected a whole number"),
        ({"name": "x", "table": {"k": "v"}}, "table.k", "expected a whole number"),
        ({"name": "x", "rate": -1}, "", "rate must not be negative"),
        ({"name": "x", "inner": 4}, "inner", "expected a table with size, kind"),
    ],
)
def test_refuses_with_the_place_and_what_is_allowed(mapping, path, problem):
    with pytest.raises(ConfigError) as caught:
        from_mapping(Outer, mapping)
    assert ".".join(caught.value.path) == path
    assert problem in str(caught.value)


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
    )
)
def test_loading_inverts_dumping(value):
    assert from_mapping(Outer, to_mapping(value)) == value


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("index.chunk.size=200", ("index", "chunk", "size"), 200),
        ('a.b=["x", "y"]', ("a", "b"), ["x", "y"]),
        ("a.b=plain words", ("a", "b"), "plain words"),
        ("a.b=x=y", ("a", "b"), "x=y"),
        ("a=true", ("a",), True),
        ("a=null", ("a",), None),
        ('a="null"', ("a",), "null"),
    ],
)
def test_assignments_are_read_as_toml(text, path, value):
    assert parse_assignment(text) == (path, value)


@pytest.mark.parametrize("text", ["", "noequals", "=3", "a..b=3"])
def test_a_malformed_assignment_is_refused(text):
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


@pytest.mark.parametrize("text", ["1.0005k", "5X", "M", "-5M", "5 M", "1.5", "0M", "5MM", float("inf"), float("nan")])
def test_what_is_no_whole_number_is_not_made_one(text):
    with pytest.raises(ConfigError, match="expected a whole number"):
        from_mapping(Inner, {"size": text})


def test_a_member_of_a_union_stays_what_it_is():
    @dataclass(frozen=True)
    class Cell:
        value: str | int | float

    for value in ("5M", 5, 2.0):
        found = from_mapping(Cell, {"value": value}).value
        assert found == value and type(found) is type(value)


def test_assign_creates_tables_and_refuses_to_enter_a_value():
    mapping: dict = {"a": 1}
    assign(mapping, ("b", "c"), 2)
    assert mapping == {"a": 1, "b": {"c": 2}}
    with pytest.raises(ConfigError, match="is a value, not a table"):
        assign(mapping, ("a", "c"), 2)


def test_line_of_finds_the_key_or_its_nearest_table():
    toml = 'name = "x"\n\n[stages.index]\nuse = "y"\nchunk.size = 3\n\n[stages."two words"]\nkey = 1\n'
    assert line_of(toml, ("stages", "index", "chunk", "size")) == 5
    assert line_of(toml, ("stages", "index", "missing")) == 3
    assert line_of(toml, ("stages", "two words", "key")) == 8
    assert line_of(toml, ("nowhere",)) is None


@dataclass(frozen=True)
class Told:
    """Of no use, but for what it says.

    name      of it, e.g. a word.
    rate      how fast, at
              0.5 a second. Not slower.
    tags      several; none at first
    table     -> what is counted.
    """

    name: str
    rate: float = 0.5
    tags: tuple[str, ...] = ("a", "ä")
    table: dict[str, int] = field(default_factory=dict)


def test_the_docstring_describes_the_fields():
    assert described(Told) == {
        "name": ("", "of it, e.g. a word"),
        "rate": ("0.5", "how fast, at 0.5 a second. Not slower"),
        "tags": ('["a", "ä"]', "several; none at first"),
        "table": ("{}", "-> what is counted"),
    }
    with pytest.raises(ValueError, match="docstring of Outer says nothing about name"):
        described(Outer)


def test_one_value_where_a_list_is_wanted_is_told_how_to_write_it():
    with pytest.raises(ConfigError, match=r"^tags: expected a list of a string, got 'docs': write \[\"docs\"\]$"):
        from_mapping(Outer, {"name": "x", "tags": "docs"})


def test_a_table_is_described_by_its_keys_with_the_defaults_that_it_has_there():
    @dataclass(frozen=True)
    class Part:
        """A part.

        size  how large
        """

        size: int = 3
        kind: Literal["a"] = "a"

    @dataclass(frozen=True)
    class Other:
        kind: Literal["b"] = "b"

    @dataclass(frozen=True)
    class Base:
        """rate  how fast"""

        rate: float = 0.5

    @dataclass(frozen=True)
    class Whole(Base):
        """A whole.

        part  what is in it
        """

        part: Part | Other = Part(size=7)

    kinds = "`a` or `b`, each with settings of its own"
    told = {"rate": ("0.5", "how fast"), "part.size": ("7", "how large"), "part.kind": ('"a"', kinds)}
    assert described(Whole) == told


def test_a_default_as_it_is_described_can_be_set():
    built: dict[str, Any] = {"name": "x"}
    for key, (default, _) in described(Told).items():
        if default:
            assign(built, *parse_assignment(f"{key}={default}"))
    assert from_mapping(Told, built) == Told("x")


class TestPartsOfTables:
    """A table that names some keys changes these, and leaves the rest as the field's default has it."""

    @dataclass(frozen=True)
    class Warm:
        degrees: float = 30.0
        fan: bool = False
        kind: Literal["warm"] = "warm"

    @dataclass(frozen=True)
    class Cold:
        degrees: float = 5.0
        kind: Literal["cold"] = "cold"

    @dataclass(frozen=True)
    class House:
        air: "TestPartsOfTables.Cold | TestPartsOfTables.Warm" = field(
            default_factory=lambda: TestPartsOfTables.Warm(20.0, fan=True)
        )
        rooms: int = 1

    @dataclass(frozen=True)
    class Street:
        first: "TestPartsOfTables.House" = field(
            default_factory=lambda: TestPartsOfTables.House(TestPartsOfTables.Warm(25.0, fan=True), 7)
        )

    @pytest.mark.parametrize(
        ("table", "expected"),
        [
            ({}, Warm(20.0, True)),
            ({"air": {"degrees": 22.0}}, Warm(22.0, True)),
            ({"air": {"fan": False}}, Warm(20.0, False)),
            ({"air": {"kind": "warm", "degrees": 1}}, Warm(1.0, True)),
            ({"air": {"kind": "cold"}}, Cold(5.0)),
            ({"air": {"kind": "cold", "degrees": 2}}, Cold(2.0)),
        ],
    )
    def test_a_union(self, table, expected):
        assert from_mapping(self.House, table).air == expected

    def test_two_levels(self):
        street = from_mapping(self.Street, {"first": {"rooms": 3}})
        assert street.first == self.House(self.Warm(25.0, fan=True), 3)
        street = from_mapping(self.Street, {"first": {"air": {"fan": False}}})
        assert street.first == self.House(self.Warm(25.0, fan=False), 7)

    @pytest.mark.parametrize(
        ("table", "problem"),
        [
            ({"air": {"degres": 1}}, 'air.degres: unknown key "degres"; did you mean "degrees"?'),
            ({"air": {"kind": "wram"}}, 'air.kind: unknown kind "wram"; did you mean "warm"?'),
            ({"air": {"degrees": "x"}}, "air.degrees: expected a number"),
        ],
    )
    def test_errors_name_the_key(self, table, problem):
        with pytest.raises(ConfigError, match=re.escape(problem)):
            from_mapping(self.House, table)


def test_what_begins_with_an_unknown_name_is_meant():
    allowed = ["train.sweep", "train.pretrain", "data.read", "strain"]
    told = unknown("stage", "train", allowed)
    assert told.startswith('unknown stage "train"; did you mean "train.sweep" or "train.pretrain"? allowed: ')
    assert 'did you mean "strain"?' in unknown("stage", "strian", allowed)
    assert "did you mean" not in unknown("stage", "", allowed)


def test_a_word_that_is_none_of_the_allowed_ones_is_told_once_with_the_nearest():
    """Also where the type has the words in two parts, of which the empty one means none."""

    @dataclass(frozen=True)
    class Chosen:
        rule: Literal["gopher", "c4"] | Literal[""] = ""
        mode: Literal["pack", "concatenate"] = "pack"

    for word in ("gopher", "c4", ""):
        assert from_mapping(Chosen, {"rule": word}).rule == word
    with pytest.raises(ConfigError) as caught:
        from_mapping(Chosen, {"rule": "gofer"})
    assert str(caught.value) == "rule: 'gofer' is not one of 'gopher', 'c4' or '' for none; did you mean 'gopher'?"
    with pytest.raises(ConfigError) as caught:
        from_mapping(Chosen, {"mode": 7})
    assert str(caught.value) == "mode: 7 is not one of 'pack', 'concatenate'"
