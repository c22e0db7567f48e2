"""Rewards of the steps of a solution: their form, and the equations in them, which a program checks.

Outcome rewards say nothing of how an answer was found; Lightman et al. 2023 ("Let's verify step by step") and
Uesato et al. 2022 compare both kinds.
"""

import ast
import operator
import re
from collections.abc import Callable
from fractions import Fraction

from lmworks.evaluate.metric import Metric, each

_NUMBERED = re.compile(r"(?:Step )?(\d+)[.:)] +\S")
# The longest run of arithmetic before an equals sign, and the number behind it.
_EQUATION = re.compile(r"(?=([-\d(][-+*/×÷\d\s().,]{0,200})=\s*\$?(-?\d[\d,]*(?:\.\d+)?))")
_OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_LONGEST = 200  # characters of an expression, which bounds the numbers that come out of it


def steps_of(text: str) -> tuple[str, ...]:
    """The steps of a solution: its lines that are not blank, up to "Answer:", without the tags of its reasoning."""
    reasoning = re.sub(r"</?think>", "\n", text.partition("Answer:")[0])
    return tuple(line.strip() for line in reasoning.splitlines() if line.strip())


def arithmetic(expression: str) -> Fraction:
    """The exact value of sums, differences, products and quotients of numbers, with brackets; ValueError else."""
    plain = expression.replace(",", "").replace("×", "*").replace("÷", "/").strip()
    if len(plain) > _LONGEST:
        raise ValueError(f"an expression of more than {_LONGEST} characters")
    try:
        return _value(ast.parse(plain, mode="eval").body, plain)
    except (SyntaxError, ZeroDivisionError, RecursionError, MemoryError) as error:
        raise ValueError(f"no arithmetic: {expression!r} ({error})") from None


def _value(node: ast.expr, source: str) -> Fraction:
    match node:
        case ast.Constant(value=int() | float()):
            return Fraction(ast.get_source_segment(source, node) or "")  # a decimal as it is written
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, source)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATIONS:
            return _OPERATIONS[type(sign)](_value(left, source), _value(right, source))
    raise ValueError(f"no arithmetic: {ast.unparse(node)!r}")


def checked_equations(text: str) -> list[bool]:
    """For each different equation of the text, `expression = number`, whether it holds: exactly for a whole number, to
    the digits that are written for a decimal one."""
    found, end = {}, -1
    for match in _EQUATION.finditer(text):
        if match.end(1) == end:  # a shorter run before the same equals sign
            continue
        expression, right = match[1].strip(), match[2].replace(",", "")
        if not re.search(r"[\d)]\s*[-+*/×÷]", expression):  # a number alone shows nothing
            continue
        try:
            difference = abs(arithmetic(expression) - Fraction(right))
        except ValueError:
            continue
        end = match.end(1)
        decimals = len(right.partition(".")[2])
        found["".join(expression.split()), right] = difference <= (Fraction(1, 2 * 10**decimals) if decimals else 0)
    return list(found.values())


def equations() -> Metric:
    """The share of a response's different equations that hold; 0 for a response without one. Easy ones raise it as much
    as those that the problem needs, so it belongs next to a reward of the answer, not in its place."""

    def share(text: str) -> float:
        holds = checked_equations(text)
        return sum(holds) / len(holds) if holds else 0.0

    return Metric("equations", each(lambda _, one: share(one.text)))


def step_format() -> Metric:
    """1 where there are two steps at least, and each begins with its number: `1. `, `2) `, `Step 3: `."""

    def numbered(text: str) -> bool:
        steps = steps_of(text)
        numbers = [int(found[1]) if (found := _NUMBERED.match(step)) else 0 for step in steps]
        return len(steps) > 1 and numbers == list(range(1, len(steps) + 1))

    return Metric("step-format", each(lambda _, one: float(numbered(one.text))), proportion=True)
