"""Judges whose minds are known: what they prefer becomes rows, whatever the order; what the order decides does not."""

import json
from collections import Counter
from types import SimpleNamespace

import pytest

from command_line import refused
from judge_cases import PlantedEngine
from lmworks.align.judged_preferences import judged_preferences, sampled_candidates
from lmworks.evaluate.judge import Judge, rubric
from lmworks.evaluate.release.votes import Vote
from lmworks.generate.protocol import SamplingParameters
from lmworks.records import Message, Provenance

ROWS = [Vote("Why?", ("short", "a longer one", "the longest answer"), provenance=Provenance("s")),
        Vote((Message("user", "Who?"),), ("I am", "I"))]  # fmt: skip


def mind(preferred) -> PlantedEngine:
    """Says A with the probability 0.9 where `preferred(first, second)` is True, B where False, tie where None."""

    def judge(prompt: str) -> dict[str, float]:
        first, second = (part.split("\n")[0] for part in prompt.split("Response ")[1:3])
        said = preferred(first.removeprefix("A: "), second.removeprefix("B: "))
        return {"A": -0.1 if said else -2.0, "B": -0.1 if not said else -2.0}

    return PlantedEngine(judge)


def test_a_judge_that_prefers_what_is_longer_is_followed_in_every_pair():
    judge = Judge(mind(lambda one, two: len(one) > len(two)), rubric("helpfulness"))  # type: ignore[arg-type]
    rows, undecided = judged_preferences(judge, ROWS, "planted")
    assert undecided == [] and len(rows) == 4 and all(len(row.chosen) > len(row.rejected) for row in rows)
    assert [row.provenance.order for row in rows] == [1, 1, 1, 0] and rows[3].prompt == ROWS[1].prompt
    assert rows[0].provenance == Provenance("s", None, "planted planted", f"helpfulness {judge.rubric.hash}", 1)


def test_what_the_order_decides_is_kept_apart():
    judge = Judge(mind(lambda one, two: True), rubric("helpfulness"))  # type: ignore[arg-type]
    rows, undecided = judged_preferences(judge, ROWS, "planted")
    assert rows == [] and Counter(one.reason for one in undecided) == {"the order decides": 4}
    with pytest.raises(ValueError, match="single responses"):
        judged_preferences(Judge(mind(None), rubric("truthfulness")), ROWS, "planted")  # type: ignore[arg-type]


def test_prompts_alone_are_sampled_and_what_cannot_be_compared_is_counted():
    said = {"Why?": ["a", "b", "a"], "Who?": ["x", "x", "x"], "When?": ["y", "z", "cut"]}

    def generate(requests):
        assert len({request.sampling.seed for request in requests}) == len(requests)
        given = {name: iter(texts) for name, texts in said.items()}
        texts = [next(given[request.messages[-1].content]) for request in requests]
        return [SimpleNamespace(text=text, finish_reason="length" if text == "cut" else "stop") for text in texts]

    rows = [ROWS[0], *(Vote(name) for name in said)]
    left_out = Counter[str]()
    sampling = SamplingParameters(temperature=1.0, seed=0)
    found = sampled_candidates(SimpleNamespace(generate=generate), rows, 3, sampling, left_out)  # type: ignore[arg-type]
    assert [one.completions for one in found] == [ROWS[0].completions, ("a", "b"), ("y", "z")]
    assert sorted(left_out.values()) == [1, 1]


def test_a_judge_that_nobody_measured_is_refused_with_the_command_that_measures_it(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "Why?", "completions": ["a", "b"]}))
    said = refused("prefer", path, "--judge", "no-such-model", "--out", tmp_path / "out.jsonl")
    assert "lmworks judge calibrate" in said and "helpfulness" in said and not (tmp_path / "out.jsonl").exists()
