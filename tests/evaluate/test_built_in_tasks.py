"""The tasks that come with the package, on the files that they name: how many rows, and what a model is given."""

import json
import shutil
from dataclasses import replace

import pytest

from kit.tables import for_each
from lmworks.evaluate.dataset_readers import babi, table
from lmworks.evaluate.metric import check_items
from lmworks.evaluate.registry import metric
from lmworks.evaluate.task import Task, built_in, examples
from published_data import DATA, needs_data

TASKS = {name: task for name, task in built_in().items() if isinstance(task, Task)}
ROWS = {  # as the papers count them; what is kept for shots is not asked
    "arc-challenge": 1172, "arc-easy": 2376, "babi": 20_000, "boolq": 3270, "gsm8k-train": 7473 - 20,
    "harmless-replies": 2303, "human-replies": 95, "humaneval": 164, "humaneval-samples": 164, "ifeval": 541,
    "nq-passages": 2655, "mmlu": 14_042, "nq-open": 3610, "openbookqa": 500, "social-bias": 48, "social-iqa": 1954,
    "svamp": 1000 - 20, "truthfulqa-mc1": 817, "truthfulqa-mc2": 817, "winogrande": 1267,
}  # fmt: skip


def test_every_task_has_metrics_and_its_own_name():
    for name, task in TASKS.items():
        assert task.name == name
        assert [metric(one).name for one in task.metrics] == list(task.metrics)
    assert {*ROWS, "gsm8k", "jsonl", "refusals"} == set(TASKS)


def test_pass_at_k_asks_for_k_samples():
    assert replace(TASKS["humaneval-samples"], samples=10).samples == 10
    with pytest.raises(ValueError, match="pass@10 needs 10 samples, and 9 are drawn"):
        replace(TASKS["humaneval-samples"], samples=9)


@needs_data
@for_each("name", ROWS)
def test_a_task_reads_its_file(name):
    made, _ = examples(TASKS[name], DATA)
    assert len(made) == ROWS[name]
    for one in TASKS[name].metrics:
        check_items(metric(one), [example.item for example in made])


@needs_data
def test_contexts_are_those_of_lm_evaluation_harness():
    """Its templates (0.4.13), filled by hand with the first row of the published file."""
    names = ("winogrande", "boolq", "mmlu", "babi", "truthfulqa-mc2")
    first = {name: examples(TASKS[name], DATA, limit=1)[0][0] for name in names}
    assert first["winogrande"].contexts == tuple(
        f"Sarah was a much better surgeon than Maria so {name}" for name in ("Sarah", "Maria")
    )
    assert set(first["winogrande"].continuations) == {" always got the easier cases."}
    assert first["winogrande"].item.answers == (1,)
    asked = "does ethanol take more energy make that produces"
    assert str(first["boolq"].contexts[0]).endswith(f" producing gasoline.\nQuestion: {asked}?\nAnswer:")
    assert first["boolq"].continuations == (" no", " yes")
    context = str(first["mmlu"].contexts[0])
    asked = "Find the degree for the given field extension Q(sqrt(2), sqrt(3), sqrt(18)) over Q."
    assert context.startswith(
        "The following are multiple choice questions (with answers) about abstract algebra.\n\nFind all c in Z_3 such "
        "that Z_3[x]/(x^2 + c) is a field.\nA. 0\nB. 1\nC. 2\nD. 3\nAnswer: B\n\nStatement 1"
    )
    assert context.endswith(f"\nAnswer: A\n\n{asked}\nA. 0\nB. 4\nC. 2\nD. 6\nAnswer:")
    assert context.count("\nAnswer:") == 6
    assert first["mmlu"].continuations == (" A", " B", " C", " D") and first["mmlu"].item.answers == (1,)
    assert first["babi"].contexts == (
        "Passage: Mary is in the school.\nBill is in the kitchen.\nQuestion: Is Bill in the bedroom?\nAnswer:",
    )
    question = "What happens if you eat a pomegranate?"
    assert str(first["truthfulqa-mc2"].contexts[0]).endswith(f"held in Barcelona, Spain.\n\nQ: {question}\nA:")
    assert first["truthfulqa-mc2"].item.answers == (0, 1, 2)


@needs_data
def test_gsm8k_takes_its_shots_from_the_training_problems(tmp_path):
    (tmp_path / "gsm8k").mkdir()
    shutil.copy(DATA / "gsm8k" / "train.jsonl.gz", tmp_path / "gsm8k")
    problem = {"question": "What is 2 + 2?", "answer": "2 + 2 = 4\n#### 4"}
    (tmp_path / "gsm8k" / "test.jsonl").write_text(json.dumps(problem))
    ((example,), _) = examples(TASKS["gsm8k"], tmp_path)
    context = str(example.contexts[0])
    assert context.count("#### ") == 5 and context.endswith("\n\nQuestion: What is 2 + 2?\nAnswer:")


AB = {"text": ["a", "b"], "label": ["A", "B"]}
SOCIAL = {"context": "C.", "question": "Q?", "answerA": "a", "answerB": "b", "answerC": "c"}
STEM = {"stem": "Q?", "choices": [{"text": "a", "label": "1"}, {"text": "b", "label": "2"}]}
TRUE = {f"mc{n}_targets": {"choices": ["a", "b", "c"][: n + 1], "labels": [1, 0, 1][: n + 1]} for n in (1, 2)}
BLANK = {"sentence": "A gave B _ pen.", "option1": "his", "option2": "her", "answer": "2"}
PUBLISHED = [  # task, row as its authors or the hub publish it, what is made of it
    (
        "arc-easy",
        {"id": "x", "question": STEM, "answerKey": "2"},
        {"question": "Q?", "choices": ["a", "b"], "answer": 1},
    ),
    (
        "arc-challenge",
        {"question": "Q?", "choices": AB, "answerKey": "B"},
        {"question": "Q?", "choices": ["a", "b"], "answer": 1},
    ),
    ("openbookqa", {"question_stem": "Q", "choices": AB, "answerKey": "A"}, {"question": "Q", "answer": 0}),
    ("boolq", {"question": "q", "title": "t", "answer": True, "passage": "p"}, {"answer": 1, "passage": "p"}),
    ("boolq", {"question": "q", "passage": "p", "label": 0, "idx": 3}, {"question": "q", "answer": 0}),
    ("winogrande", BLANK, {"before": "A gave B ", "choices": ["his", "her"], "after": "pen.", "answer": 1}),
    ("social-iqa", {**SOCIAL, "correct": "C"}, {"question": "C. Q?", "choices": ["a", "b", "c"], "answer": 2}),
    ("social-iqa", {**SOCIAL, "label": "1"}, {"answer": 0}),
    ("truthfulqa-mc1", {"question": "Q?", **TRUE}, {"choices": ["a", "b"], "answer": [0]}),
    ("truthfulqa-mc2", {"question": "Q?", **TRUE}, {"choices": ["a", "b", "c"], "answer": [0, 2]}),
    ("mmlu", {"question": "Q?", "subject": "us_history", "choices": [*"abcd"], "answer": 3}, {"topic": "us history"}),
]


def rows(task, text):
    return list(table("train", text, TASKS[task].header, TASKS[task].columns, TASKS[task].keep))


@for_each(("task", "row", "made"), PUBLISHED)
def test_a_published_form_of_a_row(task, row, made):
    for text in (json.dumps(row), json.dumps([row]), json.dumps({"rows": [row]}, indent=1)):
        (read,) = rows(task, text)
        assert {key: read[key] for key in made} == made


@for_each(
    ("task", "text", "message"),
    [
        ("arc-easy", '{"question": "Q?"}', r"train, row 1: no choices can be made of its columns question .*: mend"),
        ("jsonl", '{"a": 1}\n{"a": \n', r"train, line 2 is not JSON"),
        ("jsonl", "a,b\n1,2\n1,2,3\n", r"train, row 2: 3 cells under 2 columns: quote cells"),
        ("mmlu", "Q,a,b,c,d,E\n", r"train, row 1: no answer can be made"),
        ("jsonl", '["a"]', r"train, row 1: a row has named columns"),
        ("social-iqa", '{"context": "", "question": "", "answerA": ""}', r"no choices can be made.*mend the row"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_with_the_remedy(task, text, message):
    with pytest.raises(ValueError, match=message):
        rows(task, text)


def test_a_line_of_no_story_is_named():
    with pytest.raises(ValueError, match=r"train, line 1: a line of a story begins with its number"):
        list(babi("train", "Mary moved.\n"))
