"""Rewards of a user's: functions of a module or a file, of one completion or, as TRL's, of lists of them."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from runpy import run_path
from typing import Any

from lmworks.evaluate.metric import Item, Metric, Response, Value, each
from lmworks.records import Message, Unscored

SHAPES = "score(item, response) -> number, or score(prompts, completions, **columns) -> a list of numbers"


class RewardShapeError(ValueError):
    """A function that is called, or answers, otherwise than `SHAPES`."""


def located(name: str, base: Path) -> str:
    """The name `file.py:function` with the file's whole path, which starts at `base`; other names as they are."""
    file, _, function = name.rpartition(":")
    return f"{(base / file).resolve()}:{function}" if file.endswith(".py") else name


def own_reward(name: str) -> Metric:
    """The function `module:name` or `file.py:name`. LookupError where there is none, RewardShapeError for one that
    is called otherwise than `SHAPES`."""
    place, _, attribute = name.rpartition(":")
    try:
        names = run_path(place) if place.endswith(".py") else vars(import_module(place))
        function = names[attribute]
    except Exception as error:  # whatever its author did
        raise LookupError(f"no verifier {name!r}: {type(error).__name__}: {error}") from None
    try:
        signature = inspect.signature(function)
        if "completions" in signature.parameters:
            measure = partial(_of_lists, name, function, signature)
            return Metric(name, measure, signature={"lists": True})
        signature.bind(Item(""), Response())
    except TypeError as error:
        raise RewardShapeError(f"the reward {name}: {error}. Write it as {SHAPES}") from None
    return Metric(name, each(lambda item, response: _number(name, function(item, response))))


def _of_lists(
    name: str, function: Callable[..., Any], signature: inspect.Signature, items: Sequence[Item], responses: Any
) -> list[Value]:
    """Messages stand for a prompt that has them, and for its completion then. RewardShapeError for another result
    than a number, or None, for each."""
    columns = {key for item in items for key in item.fields}
    given: dict[str, Any] = {key: [item.fields.get(key) for item in items] for key in columns}
    given["answer"] = [item.references[0] if item.references else None for item in items]
    spoken = [not isinstance(item.prompt, str) for item in items]
    texts = [one.text for one in responses]
    given["prompts"] = [i.prompt if isinstance(i.prompt, str) else list(map(_plain, i.prompt)) for i in items]
    given["completions"] = [
        [{"role": "assistant", "content": text}] if own else text for text, own in zip(texts, spoken, strict=True)
    ]
    if not any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values()):
        given = {key: value for key, value in given.items() if key in signature.parameters}
    values = function(**given)
    if not hasattr(values, "__len__") or isinstance(values, str | dict) or len(values) != len(items):
        raise RewardShapeError(f"{name} gave {values!r:.80} for {len(items)} completions. Write it as {SHAPES}")
    return [_number(name, value) for value in values]


def _plain(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}


def _number(name: str, value: Any) -> Value:
    if value is None or isinstance(value, Unscored):
        return value or Unscored(f"{name} gave None")
    try:
        return tuple(map(float, value)) if isinstance(value, tuple) else float(value)
    except (TypeError, ValueError):
        raise RewardShapeError(f"{name} gave {value!r:.80}, which is no number. Write it as {SHAPES}") from None
