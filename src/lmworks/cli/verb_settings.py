"""Verbs out of configs and Python calls: their options, their defaults and their help.

A setting of a verb is a field of a config. It is given as `--set epochs=5`, or as an option of its name, `--epochs 5`.
"""

import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from lmworks.config import described

TAKES = "What `--set NAME=VALUE` takes, or `--NAME VALUE`, with the defaults:"
Verb = Callable[..., Any]
MOST_USED = frozenset(
    "algorithm.beta allow_code allowed_hosts batch budget cache_dtype calibration.length calibration.sequences "
    "context_length critique device dimensions embedding epochs family flops format grid.bits grid.symmetric held_out "
    "host hours judge keys largest law layers layout.data layout.zero length limit longest loss.beta merge "
    "method.heads method.layers method.neurons method.r min_count minutes model neftune objective params port price "
    "rate reward shortest shots sizes slots smallest special_tokens subwords suites task tokens train.precision "
    'train.recompute vocabulary vocabulary_size weights="auto" window words'.split()
)


class VerbCommand(TyperCommand):
    """A verb: `--help` lists its settings in MOST_USED where there are many, `--help-all` all of them. An option that
    it lacks may be a setting."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = {option for parameter in self.params for option in (*parameter.opts, *parameter.secondary_opts)}
        options |= {"--help", "--help-all", "--"}
        unknown = next((arg for arg in args if arg.startswith("--") and arg.partition("=")[0] not in options), None)
        if unknown is not None and "--set" in options and not get_close_matches(unknown, options):
            name = unknown.partition("=")[0].lstrip("-").replace("-", "_")
            ctx.fail(f"No such option: {unknown}. A setting is given as --set {name}=VALUE; --help-all lists them")
        ctx.meta["all"] = "--help-all" in args
        return super().parse_args(ctx, ["--help" if arg == "--help-all" else arg for arg in args])

    def format_help(self, ctx: Any, formatter: Any) -> None:
        whole = self.epilog
        paragraphs = (whole or "").split("\n\n")
        settings = {text: text[3:].partition("`")[0] for text in paragraphs if text.startswith("- `")}
        if len(settings) > 12 and not ctx.meta["all"]:
            used = MOST_USED - {parameter.name for parameter in self.params if not getattr(parameter, "hidden", False)}
            rest = {text for text, name in settings.items() if not {name, name.partition("=")[0]} & used}
            shown = [text for text in paragraphs if text not in rest and not text.startswith("**`")]
            more = f"`{ctx.command_path} --help-all` lists these and {len(rest)} more."
            self.epilog = "\n\n".join([*shown, "", more])
        super().format_help(ctx, formatter)
        self.epilog = whole


def with_settings(verb: Verb, *configs: type) -> Verb:
    """A verb, with an option for each field of the configs that no parameter of its own has the name of. They go into
    its parameter `settings`, which is its option `--set`."""
    signature, hints = inspect.signature(verb), typing.get_type_hints(verb, include_extras=True)
    given = {field.name: config for config in configs for field in fields(config)}
    kinds = {name: _option(name, config) for name, config in given.items() if name not in signature.parameters}
    options = {name: kind for name, kind in kinds.items() if kind is not None}

    def run(**arguments: Any) -> Any:
        named = {name: arguments.pop(name) for name in options}
        settings = [f"{name}={_toml(given[name], name, value)}" for name, value in named.items() if value is not None]
        return verb(**{**arguments, "settings": [*settings, *(arguments["settings"] or [])]})

    added = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in options]
    return _typed(run, verb, [*signature.parameters.values(), *added], {**hints, **options})


def verb_of(call: Verb, show: Callable[..., None], **options: Any) -> Verb:
    """The verb of a Python call: `options` are the types of its parameters for a command line, and `show` prints what
    the call returns, given its arguments too. Its help is the call's docstring, up to what is for Python alone."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(call).parameters.items()}

    def run(**arguments: Any) -> None:
        arguments = {name: value for name, value in arguments.items() if value is not None}
        show(call(**arguments), **arguments)

    # What is required has a default that is none, `Parameter.empty`; what is empty is nothing for a command line.
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name] or None) for name in options
    ]
    verb = _typed(run, call, parameters, options)
    verb.__doc__ = (call.__doc__ or "").partition("In Python,")[0]
    return verb


def _typed(run: Verb, verb: Verb, parameters: list[inspect.Parameter], hints: Mapping[str, Any]) -> Verb:
    """`run` under the name and help of `verb`, with these parameters as typer reads them."""
    run.__name__, run.__doc__ = verb.__name__, verb.__doc__
    ordered = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[each.name]) for each in parameters]
    run.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in ordered}
    return run


def _types(config: type, name: str) -> list[Any]:
    """The types that a field may have, but None."""
    hint = typing.get_type_hints(config)[name]
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return [kind for kind in (typing.get_args(hint) if union else (hint,)) if kind is not types.NoneType]


def _option(name: str, config: type) -> Any:
    """The option of a field, hidden as the list of settings describes it; None for what takes more than texts."""
    kind, *_ = _types(config, name)
    if typing.get_origin(kind) is tuple and typing.get_args(kind)[0] in (str, Path):
        written: Any = list[str]
    elif kind in (str, Path, int, float, bool) or typing.get_origin(kind) is Literal:
        written = bool if kind is bool else str
    else:
        return None
    return Annotated[written | None, typer.Option(f"--{name.replace('_', '-')}", hidden=True)]


def _toml(config: type, name: str, value: Any) -> str:
    """The value of an option as `--set` reads it: a text is quoted where the field takes no number."""
    takes_number = {int, float} & set(_types(config, name))
    return value if takes_number else json.dumps(value, ensure_ascii=False)


def settings_help(lead: str, config: type, defaults: Any = None) -> str:
    """The settings that `--set` takes, in Markdown: a line for each field of a config, with its default (that of the
    class, or the value in the instance `defaults`); the config's own ones first, then those of each table in it under a
    heading."""
    tables: dict[str, list[str]] = {"": []}
    for key, (default, text) in described(config, defaults).items():
        parents = key.split(".")[:-1]
        for depth in range(1, len(parents) + 1):  # an outer table's own fields stand before the tables in it
            tables.setdefault(".".join(parents[:depth]), [])
        tables[".".join(parents)].append(f"- `{key}={default}`: {_literal(text)}")
    own = tables.pop("")
    parts = [part for table, lines in tables.items() if lines for part in (f"**`{table}.`**", *lines)]
    return "\n\n".join([lead, "", *own, *parts])  # typer makes one line of each paragraph, so every item is one


def _literal(text: str) -> str:
    """Text in Markdown that shows every sign of it, but for code between backticks: `<unk>` is no element of HTML."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if number % 2 else re.sub(r"([\\<>*_\[\]&#])", r"\\\1", part) for number, part in enumerate(parts)
    )
