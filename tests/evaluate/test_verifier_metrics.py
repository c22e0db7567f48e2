"""Verifiers without a model: against people's solutions, and against programs that do pass or fail."""

import gzip
import json
import socket
import time

import pytest

from kit.tables import for_each
from lmworks.evaluate.metric import Item, Response, item_value
from lmworks.evaluate.registry import metric
from lmworks.evaluate.step_metrics import arithmetic, checked_equations
from lmworks.evaluate.verifier_metrics import final_answer
from lmworks.records import Unscored
from published_data import DATA, needs_data


def value(name: str, text: str, *references: str) -> float:
    measured = metric(name)
    (found,) = measured.measure([Item("1", references=references)], [Response(text)])
    return item_value(measured, found)


@for_each(
    ("text", "answer"),
    [
        ("<think>Answer: 3</think>\nAnswer:  42 \nthanks", "42"),
        (r"so \boxed{\frac{1}{2}} it is", r"\frac{1}{2}"),
        ("Answer: 1\nno, Answer: 2", "2"),
        ("<think>2 + 2</think> 4 ", "4"),
        ("walk", "walk"),
    ],
)
def test_the_final_answer_is_the_last_one_behind_the_reasoning(text, answer):
    assert final_answer(text) == answer
    assert value("final-answer", text, "none", f" {answer}\n") == 1
    assert value("final-answer", text, answer + "0") == 0


@for_each(
    ("text", "right"),
    [
        ("<think>\na\nb\n</think>\nAnswer: 7\n", True),
        ("<think>a</think>Answer: 7", True),
        ("<think></think>\nAnswer: 7", False),
        ("<think>a</think>\nAnswer: ", False),
        ("<think>a</think>\nAnswer: 7\nmore", False),
        ("<think>a</think>\nAnswer: 7\nAnswer: 8", False),
        ("<think>a<think>b</think></think>\nAnswer: 7", False),
        ("so <think>a</think>\nAnswer: 7", False),
    ],
)
def test_the_format_is_reasoning_and_one_answer(text, right):
    assert value("format", text) == right


def test_a_schema_accepts_what_it_describes_and_nothing_is_fetched(monkeypatch):
    schema = json.dumps({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer", "minimum": 1}}})
    cases = {'{"a": 2}': 1, 'so:\n```json\n{"a": 2}\n```': 1, '{"a": 0}': 0, '{"a": NaN}': 0, "[" * 100_000: 0, "": 0}
    assert {text: value("json-schema", text, schema) for text in cases} == cases
    assert [value("json", text) for text in ("null", '```json\n{"a": 1}\n```', "NaN", "{a: 1}", "")] == [1, 1, 0, 0, 0]
    monkeypatch.setattr(socket, "socket", None)
    with pytest.raises(Exception, match=r"example\.org"):
        value("json-schema", "{}", '{"$ref": "https://example.org/schema.json"}')


def test_unit_tests_run_the_program_of_the_response():
    text = "<think>easy</think>\n```python\ndef add(a, b):\n    return a + b\n```"
    assert value("unit-tests", text, "assert add(1, 2) == 3", "assert add(1, 2) == 4") == 0.5
    assert value("unit-tests", "import sys\nsys.exit(0)", "assert False") == 0
    assert value("unit-tests", "import socket\nsocket.socket()", "pass") == 0


@needs_data
def test_the_equations_of_peoples_solutions_hold():
    """GSM8K's authors wrote `<<48/2=24>>` beside each calculation of their solutions."""
    with gzip.open(DATA / "gsm8k/train.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line)["answer"] for line, _ in zip(lines, range(300), strict=False)]
    shares = [checked_equations(row) for row in rows]
    held = [one for row in shares for one in row]
    assert len(held) > 800
    assert sum(held) / len(held) > 0.97
    wrong = [one for row in rows for one in checked_equations(row.replace("=", "=1"))]
    assert sum(wrong) / len(wrong) < 0.05


def test_arithmetic_is_exact_and_refuses_what_is_none():
    assert arithmetic("0.1 + 0.2") * 10 == 3
    assert arithmetic("-(1,000 - 1) × 2 ÷ 4") == -499.5
    for text in ("2**9", "__import__('os')", "(1+2", "1/0", "9" * 300):
        with pytest.raises(ValueError, match=r"arithmetic|characters"):
            arithmetic(text)


def test_only_equations_with_something_to_check_count():
    assert checked_equations("x = 5; 5 = 5") == []
    assert checked_equations("Step 1. 3+4 = 7 and 3 + 4 = 7") == [True]
    assert checked_equations("10/3 = 3.33, 10/3 = 3") == [True, False]
    assert value("equations", "2+2=4, 2+3=6") == 0.5


def test_steps_are_numbered_in_order():
    assert value("step-format", "<think>1. a\n\n2) b\nStep 3: c</think>\nAnswer: 4") == 1
    assert value("step-format", "1. a\n3. b") == value("step-format", "1. a") == value("step-format", "1. a\nb") == 0


def test_an_expression_is_found_and_words_are_counted():
    assert value("regex", "it is 12:30.", r"\d\d:\d\d\.$") == 1
    assert value("regex", "it is 12:30.\n", r"\d\d:\d\d$") == 0
    assert value("length", "one two, three") == 3


def test_an_expression_of_a_data_set_ends_in_bounded_time():
    """`(a|aa)+$` takes `re` 2^40 steps on forty letters."""
    began = time.monotonic()
    items = [Item(str(number), references=(one,)) for number, one in enumerate((r"(a|aa)+$", r"(a+)+$"))]
    slow, quick = metric("regex").measure(items, [Response("a" * 60 + "b"), Response("a" * 40 + "b")])
    assert isinstance(slow, Unscored) and "takes more than" in slow.reason
    assert quick == 0 and time.monotonic() - began < 30  # a second, on a machine with other work
