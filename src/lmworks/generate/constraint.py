"""What the text of a completion must be, as values: frozen, hashable, free of torch.

A constraint is compiled once for a tokenizer (`constrained.py`) and then says, before each forward, which tokens may
come next.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """JSON that the schema accepts; `schema` is the schema's JSON text. `{}` accepts every JSON value."""

    schema: str


@dataclass(frozen=True, slots=True)
class Regex:
    """Text that the whole expression matches."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the options."""

    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grammar:
    """Text of a context-free language; `source` is its EBNF."""

    source: str


@dataclass(frozen=True, slots=True)
class FunctionCalls:
    """Words, and after them calls of functions; or calls alone.

    A call is `before NAME between ARGUMENTS after`, of one of the `functions`: names, each with the JSON text of the
    schema of its arguments.

    marker     what `before` begins with. Words that hold it are over: there a call begins.
    separator  stands between two calls; None allows one call.
    required   no words, and at least one call.
    answer     what the words are where there is no call; None leaves them free.
    """

    before: str
    between: str
    after: str
    marker: str
    functions: tuple[tuple[str, str], ...]
    separator: str | None = None
    required: bool = False
    answer: JsonSchema | None = None

    def __post_init__(self) -> None:
        if not self.marker or not self.before.startswith(self.marker) or not self.between:
            raise ValueError("a call needs a marker, with which `before` begins, and something between its two parts")
        if not self.functions:
            raise ValueError("there is no function that could be called")


Constraint = JsonSchema | Regex | Choice | Grammar | FunctionCalls
