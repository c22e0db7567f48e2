"""Prompts as TOML files, which people and git read: reading, writing, hashing, comparing by part.

    name = "support"
    instruction = "Name the intent of the customer's message."
    input = "{message}"

    [slots.message]
    most = 2000

    [format]
    kind = "choice"
    options = ["refund", "delivery", "other"]

The hash is that of the content, whatever the file looks like: fields that have their default are no part of it.
"""

import dataclasses
import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from lmworks.artefact import hash_json
from lmworks.config import ConfigError, from_mapping, to_mapping, unknown
from lmworks.generate.constraint import ConstraintError
from lmworks.prompt.config import Prompt

_LIBRARY = files("lmworks.prompt") / "library"


def read_prompt(path: Path | str) -> Prompt:
    """The prompt of a TOML file; ConfigError with the key and what is allowed, or a format that cannot be enforced."""
    return parse_prompt(Path(path).read_text("utf-8"), str(path))


def parse_prompt(text: str, where: str) -> Prompt:
    try:
        mapping = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([where], f"not TOML: {error}") from error
    prompt = from_mapping(Prompt, mapping, [where])
    if prompt.format is not None:
        from llguidance import LLMatcher  # and the grammar, which needs it: most prompts have no format

        from lmworks.generate.constraint_grammar import to_grammar

        try:
            problem = LLMatcher.validate_grammar(to_grammar(prompt.format.constraint))
        except ConstraintError as error:
            problem = str(error)
        if problem:
            raise ConfigError([where, "format"], f"the engine cannot hold answers to it: {problem}")
    return prompt


def built_in(name: str) -> Prompt:
    """A prompt that comes with lmworks; LookupError names those that there are."""
    if name not in (known := built_in_names()):
        raise LookupError(unknown("prompt", name, known))
    return parse_prompt((_LIBRARY / f"{name}.toml").read_text("utf-8"), name)


def built_in_names() -> list[str]:
    return sorted(one.name.removesuffix(".toml") for one in _LIBRARY.iterdir() if one.name.endswith(".toml"))


def prompt_hash(prompt: Prompt) -> str:
    """16 hexadecimal digits of the SHA-256 of the content, but for its description."""
    return hash_json(_content(dataclasses.replace(prompt, description="")))[:16]


def to_toml(prompt: Prompt) -> str:
    """The TOML text that `parse_prompt` reads as this prompt."""
    mapping = _content(prompt)
    tables = {name: value for name, value in mapping.items() if isinstance(value, Mapping)}
    lines = [f"{name} = {_text(value)}" for name, value in mapping.items() if name not in tables]
    for name, value in tables.items():
        inner = {f"{name}.{_key(key)}": each for key, each in value.items()} if name == "slots" else {name: value}
        for title, table in inner.items():
            lines += ["", f"[{title}]", *(f"{_key(key)} = {_text(each)}" for key, each in table.items())]
    return "\n".join(lines) + "\n"


def _content(value: Any) -> Any:
    """All that differs from its default, as JSON's types: a field that is added later changes no hash."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        made = {}
        for one in dataclasses.fields(value):
            own = getattr(value, one.name)
            default = one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
            if one.name == "kind" or own != default:
                made[one.name] = _content(own)
        return made
    if isinstance(value, Mapping):
        return {key: _content(each) for key, each in value.items()}
    return to_mapping(value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _text(value: Any) -> str:
    """A value in TOML, a text of several lines as such; ValueError for null, which TOML does not have."""
    if value is None:
        raise ValueError("a schema or an example holds null, for which TOML has no word: leave it out")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_text(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        return "[\n" + "".join(f"  {_text(each)},\n" for each in value) + "]"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if not isinstance(value, str):
        return json.dumps(value)
    quoted = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if "\\n" in quoted and "\n" in value.strip("\n"):
        lines = [json.dumps(line, ensure_ascii=False)[1:-1].replace("\x7f", "\\u007f") for line in value.split("\n")]
        return '"""\n' + "\n".join(lines) + '"""'
    return quoted


# ---------------------------------------------------------------------------------------------------------------------


def prompt_diff(old: Prompt, new: Prompt) -> dict[str, list[str]]:
    """The parts that differ, each as the lines of a unified diff without its header."""
    changes: dict[str, list[str]] = {}
    for (name, before), (_, after) in zip(old.parts(), new.parts(), strict=True):
        if before != after:
            lines = difflib.unified_diff(list(_lines(before)), list(_lines(after)), lineterm="", n=2)
            changes[name] = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    return changes


def _lines(value: Any) -> Iterator[str]:
    """A part as lines: a text's own, of a table a line for each key, and one for each example."""
    if isinstance(value, str):
        yield from value.split("\n")
    elif value is not None:
        for key, each in _content(value).items():
            if isinstance(each, list):
                yield from (f"{key}: {_text(one)}" for one in each)
            else:
                yield f"{key} = {_text(each)}"
