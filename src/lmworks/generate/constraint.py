"""Constraints on the text of a completion, as values: JSON schema, regular expression, choice, grammar, citations.

Frozen, hashable, free of torch.

A constraint is compiled once for a tokenizer (`constrained_decoding.py`) and then says, before each forward, which
tokens may come next.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmworks.config import at_least

if TYPE_CHECKING:
    from lmworks.tokenizer.tool_calls import ToolForm

_DOUBLE_QUOTES = re.compile('["“”„‟«»]')


class ConstraintError(ValueError):
    """A constraint that cannot be honoured, or a token that breaks one; the message names the fix."""


class CompilerBusyError(ConstraintError):
    """Too many other constraints are being compiled: this one may be asked for again."""


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """JSON that the schema accepts; `schema` is the schema's JSON text. `{}` accepts every JSON value.

    What the keywords mean is JSON Schema 2020-12, formats asserted. Among all texts of one value, those are allowed
    that keep the order of `properties` and escape only what JSON must have escaped. Strings have no control characters
    but backspace, tab, form feed and those that end a line.

    compact   nothing stands between two parts; False allows one space, or one line break and an indent, which models
              like to write and which cost tokens.
    """

    schema: str
    compact: bool = True


@dataclass(frozen=True, slots=True)
class Regex:
    """Text that the whole expression matches, as by Python's `re.fullmatch` with `re.ASCII`; also `\\p{…}` classes."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the options."""

    options: tuple[str, ...]

    def __post_init__(self) -> None:
        if isinstance(self.options, str) or not self.options:
            raise ValueError(f"a choice needs a tuple of at least one option, got {self.options!r}")


@dataclass(frozen=True, slots=True)
class Grammar:
    """Text of a context-free language; `source` is its EBNF, as Lark writes it (rule `start`) or as GBNF does."""

    source: str


@dataclass(frozen=True, slots=True)
class Quote:
    """A span of one of the passages, letter by letter; it begins and ends at a word or a punctuation mark."""

    passages: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_passages(self.passages)


@dataclass(frozen=True, slots=True)
class CitedText:
    """Lines of prose that cite: every line ends in a citation `[n]` of a passage, and whatever is quoted is there.

    passages   the n of a citation counts them from 1.
    lines      at most as many.
    quotes     whether lines may quote. A quotation stands in straight double quotation marks, is a span of one passage
               as `quotable` writes it, and is followed by a space and the citation of that passage.
    longest    characters of the prose before a citation, about. A line is then one sentence that ends in its citations.
               0: prose may be as long as it likes.
    refusal    the one text that may stand in their place; "": there is none.

    In the prose there are no square brackets but those of citations, and no double quotation marks but those of
    quotations, so that no other text can pass for either. A full stop may follow the last citation of a line.
    """

    passages: tuple[str, ...]
    lines: int = 4
    quotes: bool = True
    longest: int = 0
    refusal: str = ""

    def __post_init__(self) -> None:
        _check_passages(self.passages)
        at_least(1, lines=self.lines)


@dataclass(frozen=True, slots=True)
class FunctionCalls:
    """Words, and after them calls of functions; or calls alone.

    A call is `before NAME between ARGUMENTS after`, of one of the `functions`: names, each with the JSON text of the
    schema of its arguments, which are an object whatever else that allows.

    marker     what the first call begins with. Words that hold it are over: there a call begins.
    separator  stands between two calls; None allows one call.
    most       calls in one answer: small models may repeat theirs without end.
    required   no words, and at least one call.
    answer     what the words are where there is no call; None leaves them free.
    opening    stands before the first call, and `closing` after the last.
    """

    before: str
    between: str
    after: str
    marker: str
    functions: tuple[tuple[str, str], ...]
    separator: str | None = None
    most: int = 8
    required: bool = False
    answer: JsonSchema | None = None
    opening: str = ""
    closing: str = ""

    @classmethod
    def of(cls, form: "ToolForm", parameters: Mapping[str, Any], **options: Any) -> "FunctionCalls":
        """Calls in a model's form of functions by name, each with the schema of its arguments."""
        functions = tuple((name, json.dumps(schema, ensure_ascii=False)) for name, schema in parameters.items())
        around = {"opening": form.opening, "closing": form.closing}
        return cls(form.before, form.between, form.after, form.marker, functions, **around, **options)

    def __post_init__(self) -> None:
        if not self.marker or not (self.opening + self.before).startswith(self.marker) or not self.between:
            raise ValueError("a call needs a marker, with which the first one begins, and something between its parts")
        if not self.functions or self.most < 1:
            raise ValueError("there must be a function, and one call at least, that could be made")


Constraint = JsonSchema | Regex | Choice | Grammar | Quote | CitedText | FunctionCalls


def quotable(passage: str) -> str:
    """A passage as it is quoted inside a line: white space becomes single spaces, double quotation marks become '."""
    return _DOUBLE_QUOTES.sub("'", " ".join(passage.split()))


def locate(quotation: str, passage: str) -> Iterator[tuple[int, int]]:
    """The places of a quotation in its passage, as code points `[start, end)`, from left to right."""
    words = (re.escape(word).replace("'", "['\"“”„‟«»]") for word in quotation.split())
    for match in re.finditer(r"\s+".join(words), passage) if quotation.strip() else ():
        yield match.span()


def _check_passages(passages: tuple[str, ...]) -> None:
    if isinstance(passages, str) or not any(passage.strip() for passage in passages):
        raise ValueError("passages must be a tuple of texts of which at least one is not blank")
