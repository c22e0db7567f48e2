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


Constraint = JsonSchema | Regex | Choice | Grammar
