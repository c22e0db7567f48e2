"""Decision trees: small checks, each with few verdicts, that lead a response from the start to a value.

    name = "short JSON"
    start = "valid"
    nodes.valid = { rule = "json", edges = { yes = "short", no = 0 } }
    nodes.short = { rule = "words", argument = "50", edges = { yes = "close", no = 0.5 } }
    nodes.close = { metric = "rouge-l", at_least = 0.3, edges = { yes = "good", no = 0.5 } }
    nodes.good = { rubric = "truthfulness", edges = { yes = 1, no = 0.5 } }

Edges may join: it is a directed acyclic graph. Nodes are asked in one order, each about all responses that came to it.

    tree_metric(read_tree("tree.toml"), judge=Judge(engine, rubric("truthfulness")))
"""

import contextlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from lmworks.artefact import hash_json
from lmworks.config import from_mapping, unknown
from lmworks.evaluate.instruction_checks import is_json
from lmworks.evaluate.judge import Judge, judgement_metric, rubric
from lmworks.evaluate.metric import Item, Metric, Need, Response, Value, each, item_value, ratio
from lmworks.evaluate.registry import metric
from lmworks.limited_regex import finds
from lmworks.records import Unscored

RULES: Mapping[str, Callable[[str, str], bool]] = {  # of the response and the node's argument
    "regex": lambda text, pattern: finds(pattern, text),
    "contains": lambda text, part: part.casefold() in text.casefold(),
    "words": lambda text, most: len(text.split()) <= int(most),
    "json": lambda text, _: is_json(text),
}


@dataclass(frozen=True, slots=True)
class Node:
    """One question: a `rule` with its `argument`, a `rubric` (name or file) for the judge, or a `metric` of the table
    that is `at_least` so much. `edges` lead from each verdict (yes and no, or the rubric's) to a node or a value."""

    edges: Mapping[str, str | float]
    rule: str = ""
    argument: str | int = ""
    rubric: str = ""
    metric: str = ""
    at_least: float | None = None

    def verdicts(self) -> Sequence[str]:
        """ValueError or LookupError for a node that cannot be asked."""
        if sum(map(bool, (self.rule, self.rubric, self.metric))) != 1 or bool(self.metric) == (self.at_least is None):
            raise ValueError("a node has one of a rule, a rubric, or a metric with at_least")
        if self.rule and self.rule not in RULES:
            raise ValueError(unknown("rule", self.rule, list(RULES)))
        if self.rule == "words" and not str(self.argument).isdecimal():
            raise ValueError(f"words has a number as argument, such as argument = 50, got {self.argument!r}")
        if self.rule:
            RULES[self.rule]("", str(self.argument))  # an expression that does not compile
        if self.metric:
            with contextlib.suppress(ValueError):  # it needs a model, which is given later
                metric(self.metric)
        return list(rubric(self.rubric).verdicts) if self.rubric else ["yes", "no"]


@dataclass(frozen=True, slots=True)
class Decision:
    """The value of a leaf, and the (node, verdict) pairs on the way to it."""

    value: float
    path: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class DecisionTree:
    """Nodes by name. ValueError, with the node's name, for an edge that is missing or leads nowhere, a cycle, a node
    that nothing leads to, and for what a node asks that is not there."""

    name: str
    start: str
    nodes: Mapping[str, Node]

    def __post_init__(self) -> None:
        reached = {self.start}
        for name, node in self.nodes.items():
            try:
                verdicts = node.verdicts()
            except (ValueError, LookupError) as error:
                raise ValueError(f"node {name}: {error}") from error
            if wrong := sorted(set(verdicts) ^ set(node.edges)):
                which = "no edge for" if wrong[0] in verdicts else "an edge for the unknown verdict"
                raise ValueError(f"node {name} has {which} {wrong[0]!r}; it comes to {', '.join(verdicts)}")
            reached |= {target for target in node.edges.values() if isinstance(target, str)}
        if wrong := sorted(reached - set(self.nodes)):
            raise ValueError(unknown("node", wrong[0], list(self.nodes)))
        if wrong := sorted(set(self.nodes) - reached):
            raise ValueError(f"nothing leads to the node {wrong[0]}: give it an edge, or delete it")
        _ = self.order

    @cached_property
    def order(self) -> list[str]:
        """The nodes, each behind all that lead to it."""
        behind = {name: [to for to in node.edges.values() if isinstance(to, str)] for name, node in self.nodes.items()}
        try:
            return [*TopologicalSorter(behind).static_order()][::-1]
        except CycleError as error:
            raise ValueError(f"the nodes {' -> '.join(error.args[1][::-1])} go round in a circle") from error

    def decide(
        self, items: Sequence[Item], responses: Sequence[Response], judge: Judge | None = None, **roles: Any
    ) -> list[Decision | Unscored]:
        """A decision for each response; `judge` and `roles` are the models that its nodes ask."""
        asked = {name: _asked(name, node, judge, roles) for name, node in self.nodes.items()}
        place: list[str | float | Unscored] = [self.start] * len(items)
        paths: list[tuple[tuple[str, str], ...]] = [()] * len(items)
        for name in self.order:
            here, verdicts = [number for number, at in enumerate(place) if at == name], list(self.nodes[name].edges)
            found = asked[name].measure([items[i] for i in here], [responses[i] for i in here])
            for number, value in zip(here, found, strict=True):
                if isinstance(value, Unscored):
                    place[number] = Unscored(f"node {name}: {value.reason}")
                else:
                    verdict = verdicts[int(item_value(asked[name], value))]
                    paths[number] += ((name, verdict),)
                    place[number] = self.nodes[name].edges[verdict]
        return [a if isinstance(a, Unscored) else Decision(float(a), p) for a, p in zip(place, paths, strict=True)]


def _asked(name: str, node: Node, judge: Judge | None, roles: Mapping[str, Any]) -> Metric:
    """The node as a metric, whose value is the place of its verdict among the edges."""
    places = {verdict: float(place) for place, verdict in enumerate(node.edges)}
    yes_no = {True: places.get("yes", 0.0), False: places.get("no", 0.0)}
    if node.rule:
        return Metric(node.rule, each(lambda _, response: yes_no[RULES[node.rule](response.text, str(node.argument))]))
    if node.rubric:
        if judge is None:
            raise ValueError(f"node {name} asks a judge by the rubric {node.rubric}: give one, judge=Judge(...)")
        by = replace(judge, rubric=rubric(node.rubric))
        return judgement_metric("judge", by, lambda found: places[found.verdict])
    of, least = metric(node.metric, judge=judge, **roles), node.at_least or 0.0

    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        values = of.measure(items, responses)
        return [value if isinstance(value, Unscored) else yes_no[item_value(of, value) >= least] for value in values]

    return replace(of, measure=measure, combine=ratio)


def read_tree(path: str | Path) -> DecisionTree:
    """A tree from a TOML file; ConfigError for one that cannot be followed."""
    return from_mapping(DecisionTree, tomllib.loads(Path(path).read_text("utf-8")), [str(path)])


def tree_metric(tree: DecisionTree, judge: Judge | None = None, **roles: Any) -> Metric:
    """The value of the leaf that a response comes to. ValueError where a model is missing that a node asks."""
    asked = {name: _asked(name, node, judge, roles) for name, node in tree.nodes.items()}

    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        found = tree.decide(items, responses, judge, **roles)
        return [at if isinstance(at, Unscored) else at.value for at in found]

    needs: tuple[Need, ...] = tuple({need: 0 for one in asked.values() for need in one.needs})
    signature = {"tree": hash_json(tree.nodes)[:16], **{name: one.signature for name, one in asked.items()}}
    return Metric(f"decision-tree: {tree.name}", measure, needs, signature=signature)
