"""Routing: which model and which prompt answer a question, by rules, by a learned router, or else the fallback.

    name = "auto"                       # the served name
    fallback = "large"                  # where no rule holds and nothing was learned, or it cannot be asked
    [targets.small]
    model = "smollm2-135m-instruct"
    prompt = "support"                  # of the workspace; without it the messages go as they are
    [targets.large]
    model = "another"
    [[rules]]
    target = "large"
    why = "tracebacks are long"
    contains = ["Traceback"]

The learned router (`router_fit.py`) takes the target of the largest P(right | question) - price · cost, as RouteLLM
does with two (Ong et al. 2024); a cascade asks the first target and continues where the confidence of its answer is too
low (FrugalGPT, Chen et al. 2023).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lmworks.artefact import read_json
from lmworks.config import from_mapping, read_toml, unknown
from lmworks.limited_regex import SlowPatternError, compile_pattern, finds
from lmworks.prompt.config import Prompt
from lmworks.prompt.filled_prompt import FilledPrompt, fill_prompt
from lmworks.records import Message, question_of
from lmworks.statistics.logistic_regression import Logistic

ROUTERS = "routers"  # in a workspace: NAME.toml, and NAME.json where one was learned


@dataclass(frozen=True, slots=True)
class Target:
    """A model, and the prompt that it is asked by."""

    model: str
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: all that it names must hold of the question (`contains`: one of its texts, in any case)."""

    target: str
    why: str
    contains: tuple[str, ...] = ()
    pattern: str = ""
    longer_than: int | None = None  # characters
    shorter_than: int | None = None
    turns: int | None = None  # of the user, at least

    def __post_init__(self) -> None:
        compile_pattern(self.pattern)
        numbers = self.longer_than, self.shorter_than, self.turns
        if not self.contains and not self.pattern and numbers == (None, None, None):
            raise ValueError(f"the rule {self.why!r} names nothing that must hold: it would always hold")

    def holds(self, messages: Sequence[Message]) -> bool:
        """SlowPatternError for an expression that takes too long on the question."""
        text = question_of(messages)
        return (
            (not self.contains or any(one.lower() in text.lower() for one in self.contains))
            and (not self.pattern or finds(self.pattern, text))
            and (self.longer_than is None or len(text) > self.longer_than)
            and (self.shorter_than is None or len(text) < self.shorter_than)
            and (self.turns is None or sum(one.role == "user" for one in messages) >= self.turns)
        )


@dataclass(frozen=True, slots=True)
class LearnedRouter:
    """P(right) of each target from features, what each costs, and the price of a unit of cost in units of quality.

    "query": the features are the question's vector by the encoder of this fingerprint. "cascade": those of the first
    target's answer (`confidence_features`); the costs of the others have the first one's in them.
    """

    kind: Literal["query", "cascade"]
    models: Mapping[str, Logistic]
    costs: Mapping[str, float]
    price: float
    encoder: str = ""

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """(n, features) -> (n, targets), in the order of `models`."""
        each = [model.probability(features[:, : len(model.weights)]) for model in self.models.values()]
        return np.stack(each, axis=1)

    def choose(self, probabilities: np.ndarray) -> np.ndarray:
        """(n, targets) -> (n,) the place of the chosen one, the cheaper of equal ones."""
        costs = np.array([self.costs[name] for name in self.models])
        gain = probabilities - self.price * costs
        return np.lexsort((np.broadcast_to(costs, gain.shape), -gain), axis=1)[:, 0]


@dataclass(frozen=True, slots=True)
class Decision:
    """A choice and its reason; `probability` is that of the chosen target to be right, where it is known."""

    target: str
    reason: str
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Router:
    """`learned` is the one next to its file, if there is one. ConfigError, with the remedy, for a target that is not
    declared and a router without a fallback."""

    name: str
    targets: Mapping[str, Target]
    fallback: str = ""
    rules: tuple[Rule, ...] = ()
    learned: LearnedRouter | None = field(default=None)

    def __post_init__(self) -> None:
        if not self.fallback:
            first = next(iter(self.targets), "...")
            raise ValueError(f'the router {self.name} has no fallback: add fallback = "{first}"')
        learned = self.learned.models if self.learned else ()
        for name in (self.fallback, *(rule.target for rule in self.rules), *learned):
            if name not in self.targets:
                raise ValueError(f"the router {self.name}: {unknown('target', name, list(self.targets))}")

    def decide(self, messages: Sequence[Message], embedding: Sequence[float] = ()) -> Decision:
        """The target of a conversation, by the first rule that holds, the question's vector, or the fallback. A cascade
        begins with its first target; `confident` says after its answer whether it ends there."""
        for number, rule in enumerate(self.rules, 1):
            try:
                if rule.holds(messages):
                    return Decision(rule.target, f"rule {number}: {rule.why}")
            except SlowPatternError as error:
                return Decision(self.fallback, f"fallback: rule {number}: {error}")
        if self.learned is None:
            return Decision(self.fallback, "fallback: no rule holds")
        if self.learned.kind == "cascade":
            return Decision(next(iter(self.learned.models)), "cascade: the first is asked first")
        if not len(embedding):
            return Decision(self.fallback, "fallback: the question has no vector")
        return self._learned(np.asarray(embedding, np.float64), "learned")

    def confident(self, log_probabilities: Sequence[float]) -> Decision:
        """The target of a cascade once its first one has answered, by ln p of the answer's tokens."""
        return self._learned(confidence_features([log_probabilities])[0], "cascade")

    def _learned(self, features: np.ndarray, by: str) -> Decision:
        assert self.learned is not None
        probabilities = self.learned.probabilities(features[None])
        place = int(self.learned.choose(probabilities)[0])
        names = list(self.learned.models)
        stated = ", ".join(f"P({name}) {value:.2f}" for name, value in zip(names, probabilities[0], strict=True))
        reason = f"{by}: {stated} at price {self.learned.price:.3g}"
        return Decision(names[place], reason, float(probabilities[0, place]))


def confidence_features(log_probabilities: Sequence[Sequence[float]]) -> np.ndarray:
    """(answers, 3): mean and least ln p of the tokens, and ln of how many there are."""
    rows = [one or (0.0,) for one in log_probabilities]
    return np.array([[np.mean(one), np.min(one), np.log(len(one))] for one in rows])


def read_router(path: Path, encoder: str = "") -> Router:
    """The router of a TOML file, with what was learned next to it. ConfigError names the key; ValueError where it was
    learned on another encoder than that of this fingerprint."""
    router = read_toml(Router, path)
    learned = path.with_suffix(".json")
    if not learned.exists():
        return router
    made = from_mapping(LearnedRouter, read_json(learned), [str(learned)])
    if encoder and made.encoder and made.encoder != encoder:
        raise ValueError(f"{learned} was learned on another embedding model: run `lmworks route fit` with this one")
    return replace(router, learned=made)


def routed_prompt(prompt: Prompt, messages: Sequence[Message], **options: Any) -> FilledPrompt:
    """A conversation as a prompt asks it: the last message of the user in its one slot that has no default, the earlier
    turns before it, system messages left out. ValueError for a prompt of other slots."""
    open_slots = [name for name, slot in prompt.slots.items() if slot.default is None]
    if len(open_slots) != 1:
        named = ", ".join(open_slots) or "none"
        raise ValueError(f"{prompt.name} has the slots {named}: a routed prompt has one without a default")
    last = max(place for place, one in enumerate(messages) if one.role == "user")
    earlier = [one for one in messages[:last] if one.role != "system"]
    return fill_prompt(prompt, {open_slots[0]: messages[last].content}, earlier=earlier, **options)
