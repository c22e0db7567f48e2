"""Verifiers: rules and programs that say of one response whether it is right, without a model.

What they compare with are the item's references: answers, expressions, schemas, tests. Where a response reasons before
it answers, the answer is what stands behind its last "Answer:" (`final_answer`).

GSM8K's rules are those of lm-evaluation-harness: `gsm8k-strict` takes the first number behind "#### ", and
`gsm8k-flexible` the last one of the response; both compare as texts, without commas, dollar signs and a last stop.
"""

import json
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from math import comb
from typing import Any

from lmworks.evaluate.code_sandbox import MOST_MEMORY, SECONDS, run_programs
from lmworks.evaluate.instruction_checks import word_count
from lmworks.evaluate.metric import Item, Metric, Response, Value, best_reference, each, each_referenced
from lmworks.limited_regex import finds
from lmworks.records import Unscored

_MARKED = re.compile(r"Answer:[ \t]*(.*)")
_HASHED = re.compile(r"#### (-?[0-9.,]+)")
_NUMBER = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")
_VALUE = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?")
_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_FENCED = re.compile(r"```\w*\n(.*?)```", re.DOTALL)
_LIMITS = {"seconds": SECONDS, "memory": MOST_MEMORY}
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


def _accepts(text: str, schema: str) -> bool:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for
    from referencing import Registry

    wanted = json.loads(schema)
    kind = validator_for(wanted, default=Draft202012Validator)
    kind.check_schema(wanted)
    check = kind(wanted, registry=Registry(), format_checker=kind.FORMAT_CHECKER)
    return any(check.is_valid(value) for value in _json_values(text))


def _json_values(text: str) -> list[Any]:
    """The one value of a JSON text; none where it is no JSON."""
    try:
        return [json.loads(program_of(text), parse_constant=int)]  # which refuses NaN and Infinity
    except (ValueError, RecursionError):
        return []


def _verifier(name: str, holds: Callable[[str, str], bool]) -> Metric:
    return Metric(name, best_reference(lambda text, one: float(holds(text, one))), ("references",), proportion=True)


final_answer_metric = partial(_verifier, "final-answer", lambda text, one: final_answer(text) == one.strip())
# A reference, an expression of `re`, is found in the response; `^` and `$` are those of the whole text. Unscored where
# that takes longer than `limited_regex.SECONDS`.
regex = partial(_verifier, "regex", lambda text, pattern: finds(pattern, text))
# The response, or its last fenced block, is JSON that a reference, a JSON schema, accepts: 2020-12 unless it names
# another draft, formats asserted. References to other documents are not followed.
json_schema = partial(_verifier, "json-schema", _accepts)
json_text = partial(Metric, "json", each(lambda _, one: float(bool(_json_values(one.text)))), proportion=True)
_reasons = each(lambda _, one: float(bool(_REASONED.fullmatch(one.text))))
reasoning_format = partial(Metric, "format", _reasons, proportion=True)


def length() -> Metric:
    """Words of the response: with a weight below 0, a price for each."""
    return Metric("length", each(lambda _, one: float(word_count(one.text))), higher_is_better=None)


def unit_tests() -> Metric:
    """The share of the references, programs such as `assert add(1, 2) == 3`, that run to their end behind the program
    of the response, each in a process of its own with limits (`code_sandbox`). One that exceeds them has not passed."""

    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        asked = list(zip(items, responses, strict=True))
        programs = [f"{program_of(one.text)}\n{test}\n" for item, one in asked for test in item.references]
        problems = iter(run_programs(programs))
        counts = [(sum(not next(problems) for _ in item.references), len(item.references)) for item, _ in asked]
        return [(float(passed), float(tests)) if tests else Unscored("no tests") for passed, tests in counts]

    return Metric("unit-tests", measure, ("references",), proportion=True, signature=_LIMITS)


def unbiased_pass_at_k(n: int, passed: int, k: int) -> float:
    """1 - C(n - passed, k) / C(n, k): the share of all choices of k among n programs in which one passes
    (Chen et al. 2021)."""
    return 1.0 - comb(n - passed, k) / comb(n, k)


def pass_at_k(k: int) -> Metric:
    """pass@k of items with `test` and `entry_point` in their fields, as HumanEval has them: a program is the prompt,
    the response, the test, and its call, run in `code_sandbox`. Samples are counted where there are any, else the text.
    """

    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        drawn = [response.samples or (response.text,) for response in responses]
        programs = [
            f"{item.prompt}{text}\n{item.fields['test']}\ncheck({item.fields['entry_point']})\n"
            for item, texts in zip(items, drawn, strict=True)
            for text in texts
        ]
        problems = iter(run_programs(programs))
        few = Unscored(f"pass@{k} needs {k} samples of each item")
        counts = [(len(texts), sum(not next(problems) for _ in texts)) for texts in drawn]
        return [unbiased_pass_at_k(n, passed, k) if n >= k else few for n, passed in counts]

    return Metric(f"pass@{k}", measure, proportion=True, signature=_LIMITS)


# ---------------------------------------------------------------------------------------------------------------------
# Numbers


def last_values(text: str) -> list[Decimal]:
    """The last number of a text as such, or none."""
    return [Decimal(re.sub(r"[$,]", "", found)) for found in _VALUE.findall(text)[-1:]]


def _number(name: str, given: Callable[[str], list[Any]], right: Callable[[str], list[Any]]) -> Metric:
    """1 where what is `given` by a response is something, and what is `right` by a reference."""

    def measure(item: Item, response: Response) -> float:
        return float(bool(found := given(response.text)) and found in map(right, item.references))

    return Metric(name, each_referenced(measure), ("references",), proportion=True)


def _plain(numbers: list[str]) -> list[str]:
    """Without what is before "#### ", commas, dollar signs and a last stop."""
    return [re.sub(r"\.$", "", re.sub(r"[,$]", "", re.sub(r"(?s).*#### ", "", text))) for text in numbers]


gsm8k = partial(_number, right=lambda text: _plain([text]))
gsm8k_strict = partial(gsm8k, "gsm8k-strict", lambda text: _plain(_HASHED.findall(text)[:1]))
gsm8k_flexible = partial(gsm8k, "gsm8k-flexible", lambda text: _plain(_NUMBER.findall(text)[-1:]))
last_number = partial(_number, "last-number", last_values, last_values)  # however written: 51, 51.0, $51
verbatim = partial(_number, "verbatim", lambda text: [text.strip()], lambda text: [text.strip()])
