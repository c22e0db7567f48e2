"""One strict loader from plain mappings (TOML, `--set`, JSON) to frozen dataclasses, the only schema of the house.

A key that the dataclass does not have, a missing value or a value of another type is a `ConfigError` that says where it
stands and what is allowed. Nothing is guessed: the conversions made are a whole number where a real one is asked for,
and the short ways to write a large whole number, 5M and 1e6, where one is.
"""

import dataclasses
import difflib
import inspect
import json
import math
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

T = TypeVar("T")

FACTORS = {"k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}  # of the letters behind a number


class ConfigError(ValueError):
    """A configuration that cannot be used. `path` leads to the offending key, e.g. ("stages", "index", "chunk")."""

    def __init__(self, path: Sequence[str], problem: str) -> None:
        self.path = tuple(path)
        self.problem = problem
        super().__init__(f"{'.'.join(self.path)}: {problem}" if self.path else problem)


def from_mapping(cls: type[T], mapping: Mapping[str, Any], path: Sequence[str] = ()) -> T:
    """Build the dataclass `cls` from a mapping; `path` is where the mapping stands, for error messages.

    What a table leaves out is as it is in the field's default: `train.log = 5` changes the log and nothing else of a
    `train` that a stage gave defaults of its own. A table of another `kind` than the default's stands for itself.

    Raises ConfigError for an unknown key (naming the allowed ones, and the nearest or the table that has it), a missing
    one, or a wrong type.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(path, f"expected a table with {', '.join(_field_names(cls))}, got {mapping!r}")
    hints = _hints(cls)
    allowed = _field_names(cls)
    for key in mapping:
        if key not in allowed:
            elsewhere = getattr(cls, "OTHER_NAMES", {}).get(key)  # as other libraries call a key
            raise ConfigError([*path, key], unknown("key", key, allowed, elsewhere or _below(cls, key)))
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values = {
        key: _convert(hints[key], _completed(_default_of(fields[key]), value), [*path, key])
        for key, value in mapping.items()
    }
    for field in fields.values():
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if field.init and field.name not in values and not has_default:
            raise ConfigError([*path, field.name], f"missing; expected {_describe(hints[field.name])}")
    try:
        return cls(**values)
    except ValueError as error:  # a __post_init__ that checks what types cannot say
        raise ConfigError(path, str(error)) from error


def read_toml(cls: type[T], path: Path) -> T:
    """The dataclass `cls` from a TOML file, its defaults where there is none; ConfigError names file and key."""
    try:
        mapping = tomllib.loads(path.read_text("utf-8")) if path.exists() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([str(path)], f"cannot be read: {error}") from error
    return from_mapping(cls, mapping, [str(path)])


def _default_of(field: dataclasses.Field) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


@cache
def _hints(cls: type) -> Mapping[str, Any]:
    """The types of a dataclass's fields, worked out once: documents are loaded by the million."""
    return typing.get_type_hints(cls)


def _completed(default: Any, value: Any) -> Any:
    """A table with what the default has besides, tables in it too, where both are of one kind."""
    if not isinstance(value, Mapping) or not dataclasses.is_dataclass(default) or isinstance(default, type):
        return value
    known = {inner.name: getattr(default, inner.name) for inner in dataclasses.fields(default) if inner.init}
    if "kind" in value and value["kind"] not in typing.get_args(_hints(type(default)).get("kind")):
        return value  # another member of a union
    if not value.keys() <= known.keys():  # for the error that names what is allowed
        return {**({"kind": known["kind"]} if "kind" in known else {}), **value}
    return {**known, **{name: _completed(known[name], inner) for name, inner in value.items()}}


SHAPES_NOTHING = {"shapes": False}  # metadata of a field that changes nothing of what is made, such as who makes it


def to_mapping(value: Any) -> Any:
    """The inverse of `from_mapping`: dataclasses, tuples, paths become JSON's types, recursively. Fields that shape
    nothing are left out, so that they are no part of any key or hash; what is loaded then has their defaults."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field for field in dataclasses.fields(value) if field.metadata.get("shapes", True)]
        return {field.name: to_mapping(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {str(key): to_mapping(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_mapping(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def described(cls: type, defaults: Any = None) -> dict[str, tuple[str, str]]:
    """field -> (its default as TOML, all that the class's docstring says about it, in one line without its last stop).

    The docstring has a line for each field: its name, at least two spaces, sentences that may go on, indented, on the
    next lines; those of a base class stand in its own. A field that is a table gives its keys, `chunk.target_tokens`,
    instead; where it may be one of several, `kind` says which. `defaults` is an instance whose values stand for those
    of the class. ValueError for a field that has no line.
    """
    texts = "\n".join(inspect.cleandoc(base.__doc__ or "") for base in reversed(cls.__mro__))
    docs = re.findall(r"^(\w+) {2,}(.+(?:\n {2,}.+)*)", texts, re.MULTILINE)
    sentences = {name: " ".join(text.split()).removesuffix(".") for name, text in docs}
    result: dict[str, tuple[str, str]] = {}
    for field in dataclasses.fields(cls):
        if field.name not in sentences and field.name != "kind":
            raise ValueError(f"the docstring of {cls.__name__} says nothing about {field.name}")
        default = _default_of(field)
        default = default if defaults is None else getattr(defaults, field.name)
        if dataclasses.is_dataclass(default):
            inner = described(type(default), default)
            kinds = [f"`{kind}`" for type_ in typing.get_args(_hints(cls)[field.name]) if (kind := _kind_of(type_))]
            if len(kinds) > 1:
                text = f"{', '.join(kinds[:-1])} or {kinds[-1]}, each with settings of its own"
                inner["kind"] = inner["kind"][0], text
            result |= {f"{field.name}.{name}": meaning for name, meaning in inner.items()}
            continue
        written = "" if default is dataclasses.MISSING else json.dumps(to_mapping(default), ensure_ascii=False)
        result[field.name] = (written, sentences.get(field.name, ""))
    return result


def unknown(kind: str, name: str, allowed: Sequence[str], meant: Sequence[str] = ()) -> str:
    """'unknown key "chunks"; did you mean "chunk"? Allowed: ...', the one wording for every such error.

    What begins with the name, as train.pretrain does with train, is meant before what is only like it, and before both
    what the caller knows to be `meant`.
    """
    begun = meant or [word for word in allowed if name and word.startswith(name)]
    near = [f'"{word}"' for word in begun or difflib.get_close_matches(name, allowed, n=1)]
    hint = f" did you mean {' or '.join(near)}?" if near else ""
    return f'unknown {kind} "{name}";{hint} allowed: {", ".join(sorted(allowed))}'


def parse_assignment(text: str) -> tuple[tuple[str, ...], Any]:
    """Split `index.chunk.target_tokens=200` into its path and its value, read as TOML (a bare word is a string).

    `null`, for which TOML has no word, is None: what a recipe sets, or a default, is left out.
    Raises ConfigError when there is no `=` or no key before it.
    """
    name, separator, value = text.partition("=")
    path = _dotted(name)
    if not separator or not all(path):
        raise ConfigError((), f"expected NAME.key=value, got {text!r}")
    if value.strip() == "null":
        return path, None
    try:
        return path, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return path, value.strip()


def assignments(settings: Mapping[str, Any] | Sequence[str]) -> list[tuple[tuple[str, ...], Any]]:
    """Paths and values of `{"chunk.target_tokens": 200}`, or of texts as `parse_assignment` reads them."""
    if isinstance(settings, Mapping):
        return [(_dotted(key), value) for key, value in settings.items()]
    return [parse_assignment(text) for text in settings]


def assign(mapping: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set a nested key in place, creating the tables on the way; ConfigError when one of them is not a table."""
    for depth, key in enumerate(path[:-1]):
        mapping = mapping.setdefault(key, {})
        if not isinstance(mapping, dict):
            raise ConfigError(path[: depth + 1], "is a value, not a table")
    mapping[path[-1]] = value


def assigned(
    settings: Mapping[str, Any] | Sequence[str] | None, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The settings, as `assignments` takes them, over those that are `given`; ConfigError for what is no setting."""
    mapping = dict(given or {})
    for path, value in assignments(settings or ()):
        assign(mapping, path, value)
    return mapping


def line_of(toml: str, path: Sequence[str]) -> int | None:
    """The 1-based line of a TOML text on which the key at `path`, or else its nearest table, is written.

    `tomllib` reports no positions, so this walks the lines: table headers give the prefix, `key =` the rest.
    """
    best: tuple[int, int] | None = None  # (matched depth, line)
    table: tuple[str, ...] = ()
    for number, line in enumerate(toml.splitlines(), start=1):
        header = re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line)
        key = re.match(r"\s*([\w.\-\"']+)\s*=", line)
        if header:
            table = _dotted(header[1])
        if not header and not key:
            continue
        here = table if header else (*table, *_dotted(typing.cast("re.Match[str]", key)[1]))
        if here == tuple(path[: len(here)]) and (best is None or len(here) > best[0]):
            best = (len(here), number)
    return best[1] if best else None


def _dotted(name: str) -> tuple[str, ...]:
    """The keys of a dotted name, in quotes where they hold dots themselves."""
    return tuple(key.strip().strip("\"'") for key in re.split(r"""\.(?=(?:[^"]*"[^"]*")*[^"]*$)""", name))


def _field_names(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls) if field.init]


def _below(cls: type, key: str) -> list[str]:
    """The dotted names of a key, or of what other libraries call so, in the tables of a dataclass, and in theirs:
    `algorithm.beta`; the shortest of them."""
    level, seen = [("", cls)], {cls}
    while level:
        tables = [
            (f"{prefix}{name}.", inner)
            for prefix, table in level
            for name in _field_names(table)
            for inner in _dataclasses_of(_hints(table)[name])
        ]
        named = [
            (prefix, (key,) if key in _field_names(table) else getattr(table, "OTHER_NAMES", {}).get(key, ()))
            for prefix, table in tables
        ]
        if dotted := dict.fromkeys(f"{prefix}{name}" for prefix, names in named for name in names):
            return list(dotted)
        level = [(prefix, table) for prefix, table in tables if table not in seen]
        seen.update(table for _, table in level)
    return []


def _dataclasses_of(hint: Any) -> tuple[Any, ...]:
    """The dataclasses that a field of this type may hold."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    return tuple(option for option in options if dataclasses.is_dataclass(option))


def _convert(hint: Any, value: Any, path: list[str]) -> Any:
    """Check `value` against a type hint; returns it as the dataclass will hold it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(hint, arguments, value, path)
    if origin is Literal:
        if value not in arguments:
            # The empty word, where it is among them, says that there is none.
            listed = ", ".join(repr(word) for word in arguments if word != "") + " or '' for none" * ("" in arguments)
            words = [word for word in arguments if word and isinstance(word, str)]
            near = "".join(f"; did you mean {w!r}?" for w in difflib.get_close_matches(str(value), words, n=1))
            raise ConfigError(path, f"{value!r} is not one of {listed}{near}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            remedy = f": write [{json.dumps(value, ensure_ascii=False)}]" if isinstance(value, str) else ""
            raise ConfigError(path, f"expected {_describe(hint)}, got {value!r}{remedy}")
        items = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(items) != len(value):
            raise ConfigError(path, f"expected {_describe(hint)}, got {len(value)} values")
        return tuple(
            _convert(item, entry, [*path, str(i)]) for i, (item, entry) in enumerate(zip(items, value, strict=True))
        )
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(path, f"expected a table, got {value!r}")
        return {key: _convert(arguments[1], item, [*path, key]) for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return (
            value if isinstance(value, typing.cast(type, hint)) else from_mapping(typing.cast(type, hint), value, path)
        )
    return _convert_scalar(hint, value, path)


def _convert_union(hint: Any, arguments: tuple[Any, ...], value: Any, path: list[str]) -> Any:
    if value is None and types.NoneType in arguments:
        return None
    options = [argument for argument in arguments if argument is not types.NoneType]
    if type(value) in options:
        return value
    if len(options) == 1:
        return _convert(options[0], value, path)
    if all(typing.get_origin(option) is Literal for option in options):  # one set of words, in several parts
        words = tuple(word for option in options for word in typing.get_args(option))
        return _convert(Literal[words], value, path)
    kinds = {kind: option for option in options if (kind := _kind_of(option)) is not None}
    if isinstance(value, Mapping) and value.get("kind") is not None and kinds:
        if value["kind"] not in kinds:
            raise ConfigError([*path, "kind"], unknown("kind", str(value["kind"]), list(kinds)))
        chosen = kinds[value["kind"]]
        for key in value.keys() - {*_field_names(chosen), *getattr(chosen, "OTHER_NAMES", {})}:
            if having := [f"kind={kind}" for kind, option in kinds.items() if key in _field_names(option)]:
                raise ConfigError([*path, key], unknown("key", key, _field_names(chosen), having))
        return _convert(chosen, value, path)
    for option in options:
        try:
            return _convert(option, value, path)
        except ConfigError:
            continue
    raise ConfigError(path, f"expected {_describe(hint)}, got {value!r}")


def _kind_of(option: Any) -> str | None:
    """The discriminator of a dataclass in a union: the default of its field `kind`."""
    if not dataclasses.is_dataclass(option):
        return None
    return next((str(field.default) for field in dataclasses.fields(option) if field.name == "kind"), None)


def _convert_scalar(hint: Any, value: Any, path: list[str]) -> Any:
    if hint is Path and isinstance(value, (str, Path)):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):
        if (whole := _whole_number(value)) is None:
            raise ConfigError(path, f"expected a number, such as 7e9, 7B, 300M or 1.5T, got {value!r}")
        return float(whole)
    if hint is int and (whole := _whole_number(value)) is not None:
        return whole
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(path, f"expected {_describe(hint)}, got {value!r}")
    return value


def _whole_number(value: Any) -> int | None:
    """5M, 1.5k, or 1e6, which TOML reads as a real number, as the whole number that it says; None for anything else."""
    if isinstance(value, str) and (number := re.fullmatch(r"(\d+(?:\.\d+)?)([a-z])", value.lower())):
        exact = Decimal(number[1]) * FACTORS.get(number[2], 0)
        return int(exact) if exact and exact == int(exact) else None
    return int(value) if isinstance(value, float) and value.is_integer() else None


def _describe(hint: Any) -> str:
    """A type hint in a user's words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(argument) for argument in arguments if argument is not types.NoneType)
    if origin is Literal:
        return "one of " + ", ".join(repr(argument) for argument in arguments)
    if origin is tuple:
        return (
            f"a list of {_describe(arguments[0])}"
            if arguments[-1] is Ellipsis
            else f"a list of {len(arguments)} values"
        )
    names = {str: "a string", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}
    return names.get(hint, "a table")


def named_file(name: str, base: Path, *setting: str, remedy: str = "") -> Path:
    """The file that a setting names; a relative path starts at `base`.

    ConfigError at the setting, with `remedy` in front of the rest of the fix, where there is none or it is a folder.
    """
    path = base / Path(name).expanduser()
    if not path.is_file():
        problem = f"{path} is a folder, and a file is wanted" if path.is_dir() else f"there is no file {path}"
        fix = remedy or "correct the path"
        raise ConfigError(setting, f"{problem}: {fix}, or leave the setting out. A relative path starts at {base}")
    return path


# ---------------------------------------------------------------------------------------------------------------------
# Checks of a config's numbers: each refuses those out of bounds, by their names, with a ValueError


def within(lowest: float, highest: float, **values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not lowest <= value <= highest:
            raise ValueError(f"{name} must lie between {lowest:,} and {highest:,}, got {value!r}")


def at_least(lowest: float, **values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not value >= lowest:
            raise ValueError(f"{name} must be {lowest:,} or more, got {value!r}")


def positive(up_to: float = math.inf, **values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not (0 < value <= up_to and value < math.inf):
            raise ValueError(f"{name} must be above 0{f' and at most {up_to:g}' * (up_to < math.inf)}, got {value:g}")


def below_one(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be 0 or more and below 1, got {value:g}")
