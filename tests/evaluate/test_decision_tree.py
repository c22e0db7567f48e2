"""Paths and values of decision trees, one order of questions, and trees that are refused."""

from dataclasses import replace

import pytest

from judge_cases import PlantedEngine, yes_no
from kit.tables import for_each
from lmworks.config import ConfigError
from lmworks.evaluate.decision_tree import Decision, DecisionTree, Node, read_tree, tree_metric
from lmworks.evaluate.judge import Judge, rubric
from lmworks.evaluate.metric import Item, Response, score
from lmworks.records import Scored, Unscored

TREE = """
name = "short JSON"
start = "valid"
nodes.valid = { rule = "json", edges = { yes = "short", no = "close" } }
nodes.short = { rule = "words", argument = 3, edges = { yes = "close", no = 0.5 } }
nodes.close = { metric = "exact-match", at_least = 1, edges = { yes = 1, no = "good" } }
nodes.good = { rubric = "truthfulness", edges = { yes = 0.75, no = 0 } }
"""
ITEMS = [Item(str(i), "q", references=("[1]",)) for i in range(5)]
RESPONSES = [Response(text) for text in ("[1]", "[1, 2, 3, 4, 5]", "true", "not JSON", "null")]


def truthful(asked: list[str]) -> Judge:
    def mind(prompt: str) -> dict[str, float]:
        asked.append(prompt)
        return yes_no(2 if "true" in prompt.partition("Answer: ")[2].split("\n")[0] else -2)

    return Judge(PlantedEngine(mind), rubric("truthfulness"))


def test_each_response_follows_its_edges_and_is_asked_no_more(tmp_path):
    (tmp_path / "tree.toml").write_text(TREE)
    tree, asked = read_tree(str(tmp_path / "tree.toml")), []
    found = tree.decide(ITEMS, RESPONSES, truthful(asked))
    valid, close = ("valid", "yes"), ("close", "no")
    assert found == [
        Decision(1.0, (valid, ("short", "yes"), ("close", "yes"))),
        Decision(0.5, (valid, ("short", "no"))),
        Decision(0.75, (valid, ("short", "yes"), close, ("good", "yes"))),
        Decision(0.0, (("valid", "no"), close, ("good", "no"))),
        Decision(0.0, (valid, ("short", "yes"), close, ("good", "no"))),
    ]
    assert len(asked) == 2 * 3  # two verdicts about each of the three that came to the judge
    metric = tree_metric(tree, truthful([]))
    whole = score(metric, ITEMS, metric.measure(ITEMS, RESPONSES))
    assert isinstance(whole, Scored) and whole.value == pytest.approx(0.45) and whole.n == 5
    assert metric.needs == ("references",)


def test_no_order_of_nodes_or_rows_changes_a_decision(tmp_path):
    (tmp_path / "tree.toml").write_text(TREE)
    tree = read_tree(tmp_path / "tree.toml")
    other = replace(tree, nodes=dict(reversed(tree.nodes.items())))
    judge = truthful([])
    found = tree.decide(ITEMS, RESPONSES, judge)
    assert other.decide(ITEMS[::-1], RESPONSES[::-1], judge)[::-1] == found
    assert tree_metric(tree, judge).signature == tree_metric(other, judge).signature


YES = Node({"yes": 1, "no": 0}, rule="json")


@for_each(
    ("nodes", "named"),
    [
        ({"a": replace(YES, edges={"yes": "b", "no": 0}), "b": replace(YES, edges={"yes": "a", "no": 0})}, "circle"),
        ({"a": YES, "lost": YES}, "node lost"),
        ({"a": replace(YES, edges={"yes": 1})}, "node a has no edge for 'no'"),
        ({"a": replace(YES, edges={"yes": 1, "no": 0, "perhaps": 0})}, "node a .*unknown verdict 'perhaps'"),
        ({"a": replace(YES, edges={"yes": "c", "no": 0})}, 'unknown node "c"'),
        ({"a": Node({"yes": 1, "no": 0}, metric="rogue-l", at_least=0.5)}, "node a: .*rogue-l.*rouge-l"),
        ({"a": Node({"yes": 1, "no": 0}, metric="rouge-l")}, "node a: .*at_least"),
        ({"a": Node({"yes": 1, "no": 0}, rubric="truth")}, "node a: .*truth"),
        ({"a": Node({"yes": 1, "no": 0}, rule="jsom")}, "node a: .*jsom"),
        ({"a": Node({"yes": 1, "no": 0}, rule="regex", argument="(")}, "node a: "),
        ({"a": Node({"yes": 1, "no": 0}, rule="words", argument="few")}, "node a: .*argument = 50.*few"),
        ({"a": Node({"1": 1, "2": 0}, rubric="quality")}, "node a has no edge for '3'"),
        ({"b": YES}, 'unknown node "a"'),
    ],
)
def test_a_tree_that_cannot_be_followed_is_refused_with_the_node(nodes, named):
    with pytest.raises(ValueError, match=named):
        DecisionTree("t", "a", nodes)


def test_missing_models_and_unknown_keys_are_said_before_a_row_is_read(tmp_path):
    tree = DecisionTree("t", "a", {"a": Node({"yes": 1, "no": 0}, rubric="truthfulness")})
    with pytest.raises(ValueError, match="node a asks a judge"):
        tree_metric(tree)
    (tmp_path / "tree.toml").write_text(TREE.replace("at_least", "atleast"))
    with pytest.raises(ConfigError, match="atleast"):
        read_tree(tmp_path / "tree.toml")


def test_a_response_that_a_node_cannot_measure_is_unscored_with_the_node():
    tree = DecisionTree("t", "a", {"a": Node({"yes": 1, "no": 0}, metric="perplexity", at_least=5)})
    (found,) = tree.decide([Item("1")], [Response("no log-probabilities")])
    assert isinstance(found, Unscored) and found.reason.startswith("node a: ")
