"""The figures that `benchmarks/lm_eval_harness/` adds to those of lm-evaluation-harness, and the items it makes."""

import json

import numpy as np
import pytest
from lm_eval_harness.comparison import agreeing, perplexity_error, rows
from lm_eval_harness.data import choice, passages, problem

from kit.tables import for_each


@for_each(
    ("metric", "value"),
    [("word_perplexity", lambda ratio: np.exp(ratio)), ("bits_per_byte", lambda ratio: ratio / np.log(2))],
)
def test_the_error_of_a_perplexity_is_that_of_resampled_texts(metric, value):
    random = np.random.default_rng(3)
    weights = random.integers(20, 200, 300)
    nats = weights * random.normal(3.0, 0.5, 300)
    drawn = random.integers(0, 300, (4000, 300))
    resampled = value(nats[drawn].sum(1) / weights[drawn].sum(1))
    told = perplexity_error(metric, [(-float(one), int(weight)) for one, weight in zip(nats, weights, strict=True)])
    # 4000 draws know a deviation to 1.1 %; the rest is the curve of exp, which is taken as a line.
    assert told == pytest.approx(resampled.std(ddof=1), rel=0.05)


def written(folder, acc, resps):
    folder.mkdir()
    table = {"results": {"t": {"alias": "t", "acc,none": acc, "acc_stderr,none": 0.05}}}
    (folder / "results_1.json").write_text(json.dumps(table))
    lines = [json.dumps({"doc_id": number, "resps": [[one] for one in resps[number]]}) for number in (1, 0)]
    (folder / "samples_t_1.jsonl").write_text("\n".join(lines))
    return folder


def test_differences_are_told_in_standard_errors_and_item_by_item(tmp_path):
    own = written(tmp_path / "own", 0.5, [[["-1.0", "True"], ["-2.0", "False"]], [["-3.0", "False"]]])
    other = written(tmp_path / "other", 0.51, [[["-1.0", "True"], ["-2.25", "True"]], [["-3.0", "False"]]])
    (row,) = rows("t", own, other)
    assert row == "| t | acc | 2 | 0.5 ± 0.05 | 0.51 | 0.2000 | 3 ln p, at most 0.25 apart; greedy 1 and 2, 2 alike |"


def test_texts_are_compared_as_they_are():
    own, other = ([{"resps": [[text]]} for text in texts] for texts in (("a", "b ", "c"), ("a", "b", "c")))
    assert agreeing(own, other) == "2 of 3 texts are the same"


def test_items_say_what_their_sources_say():
    row = {
        "instruction": "Please choose the correct answer to the question: Which is it: A or B?\n\n"
        "Answer1: this. Answer2: that one Answer3: none\n\nAnswer format: answer1/answer2/answer3",
        "answer": "answer2",
    }
    made = {"question": "Which is it: A or B?", "choices": ["this.", "that one", "none"], "gold": 1}
    assert choice(row) == made
    sum_ = {"Body": "He had 3.5 .", "Question": "Why?", "Equation": "( ( 3.5 + 4.0 ) - 10.0 )", "Answer": -2.5}
    assert problem(sum_) == {"question": "He had 3.5. Why?", "equation": "( 3.5 + 4 ) - 10", "answer": "-2.5"}


def test_passages_are_paragraphs_of_the_text_one_after_another():
    text = "\n\n".join(f"Paragraph {number}. " + "word " * (number * 7 % 60) for number in range(100))
    made = [one["text"] for one in passages(text)]
    assert all(len(one) >= 300 for one in made) and len(made) > 10
    assert "\n\n".join(part.strip() for part in text.split("\n\n")).startswith("\n\n".join(made))
