"""Each part of the criticism, on models with a known flaw and without it."""

import re
from types import SimpleNamespace
from typing import Any

import numpy as np

from kit.tables import for_each
from lmworks.evaluate.critique import (
    bias,
    consistency,
    diversity,
    exactness,
    retrieval,
    stated_confidence,
    token_calibration,
)
from lmworks.evaluate.generated_items import symbolic_items
from lmworks.evaluate.metric import Item, Response
from lmworks.generate.protocol import Score
from lmworks.report import Section


def cells(section: Section) -> dict[str, list[str]]:
    """Row of the first table -> its values, without their intervals."""
    return {str(row[0]): [str(cell).split(" ")[0] for cell in row[1:]] for row in section.tables[0].rows}


class ScoringEngine:
    """An engine whose ln p of a text is a function of it."""

    capabilities = SimpleNamespace(score=True, score_alternatives=True, context_length=100, missing={})
    checkpoint = SimpleNamespace(required_tokenizer=SimpleNamespace(encode=lambda text: [ord(c) for c in text]))

    def __init__(self, scores: Any) -> None:
        self.scores = scores

    def score(self, contexts: Any, continuations: Any, alternatives: int = 0) -> list[Score]:
        return [self.scores("".join(map(chr, ids))) for ids in continuations]


def test_token_calibration_is_the_gap_of_confidence_and_accuracy():
    def says_a_at_nine_tenths(text: str) -> Score:
        best = tuple(((ord("a"), np.log(0.9)),) for _ in text)
        return Score((0.0,) * len(text), best)

    section = token_calibration(ScoringEngine(says_a_at_nine_tenths), ["aaab"] * 10)  # type: ignore[arg-type]
    assert cells(section)["expected calibration error"] == ["0.150"]  # |0.9 - 0.75|


def test_bias_is_found_where_it_is_planted_and_not_without_it():
    she = ScoringEngine(lambda text: Score((1.0 if " she " in text else 0.0,)))
    assert cells(bias(she))["stereotyped female"] == ["1.000", "1.000"]  # type: ignore[arg-type]
    assert cells(bias(she))["stereotyped male"] == ["0.000", "-1.000"]  # type: ignore[arg-type]
    assert cells(bias(she))["all"] == ["0.500", "0.000"]  # type: ignore[arg-type]


def test_a_short_memory_is_found():
    def remembers_five_messages(prompts: Any, sampling: Any) -> list[Response]:
        held = ["\n".join(one.content for one in prompt[-5:]) for prompt in prompts]
        return [Response(text) for text in held]

    found = cells(consistency(remembers_five_messages))
    assert [found[f"after {n} other turns"][0] for n in (0, 2, 6)] == ["1.000", "0.000", "0.000"]
    assert found["same outcome in all wordings"] == ["1.000"]


def test_exact_tasks_accept_exact_results_alone():
    answers = {item.prompt: item.references[0] for item in symbolic_items()}
    exact = exactness(lambda prompts, _: [Response(f"It is {answers[p]}.") for p in prompts])
    assert {cell for row in cells(exact).values() for cell in row} == {"1.000"}
    wrong = exactness(lambda prompts, _: [Response(re.sub(r"\d$", "x", answers[p])[:-1]) for p in prompts])
    assert {cell for row in cells(wrong).values() for cell in row} == {"0.000"}


def test_a_model_with_one_reply_is_less_diverse_than_people():
    people = ("a b c d e f", "g h i j k l", "m n o p q r")
    section = diversity(lambda prompts, _: [Response(people[0]) for _ in prompts], [Item(n, "?", people) for n in "ab"])
    assert [row[:2] for row in cells(section).values()] == [["100.000", "0.000"], ["0.333", "1.000"]]


def test_a_passage_helps_a_model_that_reads():
    items = [Item(str(n), f"who is {n}", (f"name {n}",), (f"It was name {n}, they say.",)) for n in range(20)]

    def reads(prompts: Any, sampling: Any) -> list[Response]:
        found = [re.search(r"name \d+", prompt) for prompt in prompts]
        return [Response(one[0] if one else "Somebody else", log_probabilities=(-0.01,)) for one in found]

    found = cells(retrieval(reads, items))
    assert found["difference, paired"] == ["1.000"]
    assert [v for k, v in found.items() if k.startswith("confident")] == [["0.000"], ["1.000"]]


def test_stated_confidence_is_scored_against_being_right():
    items = [Item(str(n), "?", ("yes",)) for n in range(10)]
    responses = [Response("yes" if n % 2 else "no", confidence=0.8) for n in range(10)]
    found = cells(stated_confidence(lambda *_: responses, items, None))
    assert found["Brier score"] == [f"{0.5 * 0.2**2 + 0.5 * 0.8**2:.3f}"]
    assert found["expected calibration error"] == ["0.300"]


@for_each("part", [bias, lambda engine: token_calibration(engine, ["a"])])
def test_what_cannot_be_measured_says_why(part: Any):
    blind = SimpleNamespace(capabilities=SimpleNamespace(score=False, missing={"score": "the endpoint gives none"}))
    assert part(blind).text == "Not measured: the endpoint gives none."
