"""Verifiers: rules and programs that say of one response whether it is right, without a model.

What they compare with are the item's references: answers, expressions, schemas, tests. Where a response reasons before
it answers, the answer is what stands behind its last "Answer:" (`final_answer`).
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from lmworks.evaluate.code_sandbox import MOST_MEMORY, SECONDS, run_programs
from lmworks.evaluate.instruction_checks import word_count
from lmworks.evaluate.metric import Item, Metric, Response, Value, best_reference, each
from lmworks.limited_regex import finds
from lmworks.records import Unscored

_MARKED = re.compile(r"Answer:[ \t]*(.*)")
_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_FENCED = re.compile(r"```\w*\n(.*?)```", re.DOTALL)
_REASONED = re.compile(r"\s*<think>(?:(?!</?think>|Answer:).)+</think>\s*Answer:[ \t]*\S[^\n]*\s*", re.DOTALL)


def final_answer(text: str) -> str:
    """The answer of a response, without white space around it: behind its last "Answer:" on that line, or in its last
    `\\boxed{}`, or else all that stands behind `</think>`."""
    text = text.rpartition("</think>")[2]
    found = _MARKED.findall(text) or _BOXED.findall(text)
    return (found[-1] if found else text).strip()


def program_of(text: str) -> str:
    """The last fenced block of what stands behind `</think>`, or all of that."""
    text = text.rpartition("</think>")[2]
    return (_FENCED.findall(text) or [text])[-1]


def final_answer_metric() -> Metric:
    """1 where the final answer is a reference, letter by letter."""
    return _verifier("final-answer", lambda text, reference: final_answer(text) == reference.strip())


def regex() -> Metric:
    """1 where a reference, a regular expression of `re`, is found in the response; `^` and `$` are those of the whole
    text. Unscored where that takes longer than `limited_regex.SECONDS`."""
    return _verifier("regex", lambda text, pattern: finds(pattern, text))


def json_schema() -> Metric:
    """1 where the response, or its last fenced block, is JSON that a reference, a JSON schema, accepts: 2020-12 unless
    it names another draft, formats asserted. References to other documents are not followed."""
    return _verifier("json-schema", _accepts)


def _accepts(text: str, schema: str) -> bool:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for
    from referencing import Registry

    wanted = json.loads(schema)
    kind = validator_for(wanted, default=Draft202012Validator)
    kind.check_schema(wanted)
    check = kind(wanted, registry=Registry(), format_checker=kind.FORMAT_CHECKER)
    return any(check.is_valid(value) for value in _json_values(text))


def json_text() -> Metric:
    """1 where the response, or its last fenced block, is JSON."""
    return Metric("json", each(lambda _, one: float(bool(_json_values(one.text)))), proportion=True)


def _json_values(text: str) -> list[Any]:
    """The one value of a JSON text; none where it is no JSON."""
    try:
        return [json.loads(program_of(text), parse_constant=_not_json)]
    except (ValueError, RecursionError):
        return []


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def unit_tests() -> Metric:
    """The share of the references, programs such as `assert add(1, 2) == 3`, that run to their end behind the program
    of the response, each in a process of its own with limits (`code_sandbox`). One that exceeds them has not passed."""

    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        asked = list(zip(items, responses, strict=True))
        programs = [f"{program_of(one.text)}\n{test}\n" for item, one in asked for test in item.references]
        problems = iter(run_programs(programs))
        counts = [(sum(not next(problems) for _ in item.references), len(item.references)) for item, _ in asked]
        return [(float(passed), float(tests)) if tests else Unscored("no tests") for passed, tests in counts]

    limits = {"seconds": SECONDS, "memory": MOST_MEMORY}
    return Metric("unit-tests", measure, ("references",), proportion=True, signature=limits)


def reasoning_format() -> Metric:
    """1 where the response is `<think>`, reasoning, `</think>`, a line `Answer: ` with something behind it, and no
    more."""
    return Metric("format", each(lambda _, one: float(bool(_REASONED.fullmatch(one.text)))), proportion=True)


def length() -> Metric:
    """Words of the response: with a weight below 0, a price for each."""
    return Metric("length", each(lambda _, one: float(word_count(one.text))), higher_is_better=None)


def _verifier(name: str, holds: Callable[[str, str], bool]) -> Metric:
    return Metric(name, best_reference(lambda text, one: float(holds(text, one))), ("references",), proportion=True)
