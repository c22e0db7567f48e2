"""The reward of a completion: a weighted sum of named metrics of the registry, and of functions of the user's.

    with RewardSum({"verifier": 1.0, "format": 0.2, "length": 0.0}) as reward:
        reward.check(items)                                    # rows and names, before a model is loaded
        reward(items, [Response(text) for text in texts])      # a number or `Unscored` for each
        reward.parts                                           # name → the same, without the weight

A weight of 0 reports and does not count. Rules run in a process of their own, which a hanging one cannot outlast
(`lmworks/sandbox.py`); what could not be measured is `Unscored` with the reason, and has no reward. Programs
that a model wrote have processes and limits of their own (`evaluate/code_sandbox.py`): one that hangs has failed.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from difflib import get_close_matches
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from runpy import run_path
from typing import Any

from lmworks.evaluate.metric import Item, Metric, Response, Value, check_items, each, item_value
from lmworks.evaluate.registry import METRICS, metric
from lmworks.records import Unscored, Verifiable
from lmworks.sandbox import Sandbox, SandboxConfig, SandboxError

VERIFIER = "verifier"  # in the weights: the verifier that each row names
_PROGRAMS = "unit-tests"  # runs its programs next to each other, in processes with limits
SECONDS = 5.0  # of the processor, that a verifier has for one response
CLOCK = 12.0  # times as many seconds by the clock, for one that waits
START_SECONDS = 60.0  # of a verifier's first call, which imports what it needs
Reward = float | Unscored
SHAPES = "score(item, response) -> number, or score(prompts, completions, **columns) -> a list of numbers"


class RewardShapeError(ValueError):
    """A function that is called, or answers, otherwise than `SHAPES`."""


class RewardSum(AbstractContextManager["RewardSum"]):
    """Measures rewards; a context manager, whose process ends with this one at the latest.

    weights  name → weight. A name is one of the registry's that needs no model, `verifier` (each row's own), a function
             `module:name` or `file.py:name` (`SHAPES`), or a key of `given`.
    base     the folder that a file's relative path starts at
    given    metrics made by the caller, such as reward models (`evaluate/model_rewards.py`): they run in this process,
             without a limit, and what they raise is raised.
    parts    of the last call: name → its values without the weight
    rule     the name whose value of 1 says that a response is right: `verifier`, or else the one of the highest weight
             that is no model; "" without any

    LookupError for a name that there is none of, ValueError for one that needs a model, or if no weight counts.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        given: Mapping[str, Metric] | None = None,
        seconds: float = SECONDS,
        base: Path = Path(),
    ) -> None:
        self._base, self._seconds = base, seconds
        self.weights, self._given = dict(weights), dict(given or {})
        self.parts: dict[str, list[Reward]] = {}
        rules = [name for name, weight in self.weights.items() if weight > 0 and name not in self._given]
        self.rule = VERIFIER if VERIFIER in self.weights else max(rules, key=self.weights.__getitem__, default="")
        if not any(self.weights.values()) or not all(map(math.isfinite, self.weights.values())):
            raise ValueError('rewards are names with weights, one other than 0 at least: {"final-answer": 1.0}')
        self._lists: set[str] = set()
        for name in self.weights.keys() - self._given.keys() - {VERIFIER}:
            if name not in METRICS and get_close_matches(name, [VERIFIER], cutoff=0.8):
                raise LookupError(f'no reward is called {name!r}; did you mean "{VERIFIER}", which each row names?')
            if verifier(located(name, base)).signature.get("lists"):
                self._lists.add(name)
        self._prepared: set[str] = set()  # in the process that is there
        self._sandbox = Sandbox(SandboxConfig(seconds), "the verifier", CLOCK)

    def __exit__(self, *_: object) -> None:
        self._sandbox.close()

    def check(self, items: Sequence[Item]) -> None:
        """ValueError, with the row and the remedy, for an item that a reward cannot measure; RewardShapeError for a
        function that does not give a number for each of the first items, each with an empty response."""
        for name in self.weights.keys() - {VERIFIER}:
            whole_name = located(name, self._base)
            check_items(self._given.get(name) or verifier(whole_name), items)
            if ":" in name and (problem := self._sandbox.call(_try, (whole_name, items[:2]), START_SECONDS)):
                raise RewardShapeError(problem)
        for number, item in enumerate(items, 1) if VERIFIER in self.weights else ():
            name = _own_verifier(item)
            try:
                metric_of_row = verifier(located(name, self._base))
            except (LookupError, ValueError) as error:
                raise ValueError(f"row {number}: {error}") from None
            check_items(metric_of_row, [item], number)

    def __call__(self, items: Sequence[Item], responses: Sequence[Response]) -> list[Reward]:
        """Weighted sums, one for each item's response; `Unscored` where a part of a weight other than 0 is."""
        parts: dict[str, list[Reward]] = {}
        for name in self.weights:
            given = self._given.get(name)
            parts[name] = _numbers(given, items, responses) if given else self._verified(name, items, responses)
        self.parts = parts
        return [self._total(row) for row in zip(*parts.values(), strict=True)]

    def _verified(self, name: str, items: Sequence[Item], responses: Sequence[Response]) -> list[Reward]:
        if name in self._lists:
            return self._in_sandbox(located(name, self._base), items, responses)
        names = [located(_own_verifier(item) if name == VERIFIER else name, self._base) for item in items]
        programs = [number for number, verifier_name in enumerate(names) if verifier_name == _PROGRAMS]
        asked = [items[number] for number in programs], [responses[number] for number in programs]
        run = dict(zip(programs, _numbers(verifier(_PROGRAMS), *asked), strict=True)) if programs else {}
        rows = enumerate(zip(names, items, responses, strict=True))
        return [
            run[n] if n in run else self._in_sandbox(name, [item], [response])[0] for n, (name, item, response) in rows
        ]

    def _in_sandbox(self, name: str, items: Sequence[Item], responses: Sequence[Response]) -> list[Reward]:
        try:
            if not self._sandbox.alive:
                self._prepared.clear()
            if name not in self._prepared:  # an empty response makes it import what it needs
                self._prepared.add(name)
                with suppress(SandboxError):
                    self._sandbox.call(_verify, (name, items[:1], [Response()]), START_SECONDS)
            return self._sandbox.call(_verify, (name, items, responses), len(items) * self._seconds)
        except SandboxError as error:
            return [Unscored(str(error))] * len(items)

    def _total(self, row: Sequence[Reward]) -> Reward:
        total = 0.0
        for (name, weight), value in zip(self.weights.items(), row, strict=True):
            if not isinstance(value, Unscored):
                total += weight * value
            elif weight:
                return Unscored(f"{name}: {value.reason}")
        return total


def items_of(rows: Sequence[Verifiable]) -> list[Item]:
    """Items of rows: the answer is the reference; the row's verifier and its further columns are fields."""
    return [
        Item(
            row.provenance.source or str(number),
            row.prompt,
            (row.answer,) if row.answer else (),
            fields={**row.fields, "verifier": row.verifier},
        )
        for number, row in enumerate(rows, 1)
    ]


def verifier(name: str) -> Metric:
    """The metric of the registry, or of the function `module:name` or `file.py:name`. LookupError where there is none,
    ValueError for one that needs a model, RewardShapeError as `own_reward`."""
    if ":" not in name:
        if (entry := METRICS.get(name)) and entry.roles:
            raise ValueError(f"{name} needs a model: make it with `metric`, and give it next to the weights")
        return metric(name)
    return own_reward(name)


# ---------------------------------------------------------------------------------------------------------------------
# Functions of a user's, of one completion or, as TRL's, of lists of them


def located(name: str, base: Path) -> str:
    """The name `file.py:function` with the file's whole path, which starts at `base`; other names as they are."""
    file, _, function = name.rpartition(":")
    return f"{(base / file).resolve()}:{function}" if file.endswith(".py") else name


def own_reward(name: str) -> Metric:
    """The function `module:name` or `file.py:name`. LookupError where there is none, RewardShapeError for one that
    is called otherwise than `SHAPES`."""
    file, _, attribute = name.rpartition(":")
    try:
        names = run_path(file) if file.endswith(".py") else vars(import_module(file))
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
    texts = [response.text for response in responses]
    given["prompts"] = [
        item.prompt if isinstance(item.prompt, str) else [{"role": m.role, "content": m.content} for m in item.prompt]
        for item in items
    ]
    given["completions"] = [
        [{"role": "assistant", "content": text}] if has_messages else text
        for text, has_messages in zip(texts, spoken, strict=True)
    ]
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        given = {key: value for key, value in given.items() if key in signature.parameters}
    values = function(**given)
    if not hasattr(values, "__len__") or isinstance(values, str | dict) or len(values) != len(items):
        raise RewardShapeError(f"{name} gave {values!r:.80} for {len(items)} completions. Write it as {SHAPES}")
    return [_number(name, value) for value in values]


def _number(name: str, value: Any) -> Value:
    if value is None or isinstance(value, Unscored):
        return value or Unscored(f"{name} gave None")
    try:
        return tuple(map(float, value)) if isinstance(value, tuple) else float(value)
    except (TypeError, ValueError):
        raise RewardShapeError(f"{name} gave {value!r:.80}, which is no number. Write it as {SHAPES}") from None


# ---------------------------------------------------------------------------------------------------------------------
# Each item's own, and what runs in the process of the sandbox


def _own_verifier(item: Item) -> str:
    if name := item.fields.get("verifier"):
        return str(name)
    raise ValueError(
        f'{item.id} names no verifier: write one of `lmworks eval metrics` into each row, such as "verifier": '
        '"final-answer", or leave rewards.verifier out and give one for all, --set rewards.NAME=1'
    )


_made = cache(verifier)


def _verify(asked: tuple[str, Sequence[Item], Sequence[Response]]) -> list[Reward]:
    name, items, responses = asked
    return _numbers(_made(name), items, responses)


def _try(asked: tuple[str, Sequence[Item]]) -> str:
    """The error in the shape of a function, "" where there is none; its other errors may be the response's."""
    name, items = asked
    with suppress(Exception):
        try:
            _made(name).measure(items, [Response()] * len(items))
        except RewardShapeError as error:
            return str(error)
    return ""


def _numbers(given: Metric, items: Sequence[Item], responses: Sequence[Response]) -> list[Reward]:
    values = given.measure(items, responses)
    numbers = [value if isinstance(value, Unscored) else item_value(given, value) for value in values]
    finite = (isinstance(number, Unscored) or math.isfinite(number) for number in numbers)
    pairs = zip(numbers, finite, strict=True)
    return [number if fits else Unscored(f"{given.name} gave {number}") for number, fits in pairs]
