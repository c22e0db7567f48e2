"""A prompt as a value: its parts, the types of its slots, its examples, the format of its answers. Free of torch."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lmworks.config import unknown
from lmworks.generate.constraint import Choice, Constraint, JsonSchema, Regex
from lmworks.limited_regex import SlowPatternError, finds

SLOT = re.compile(r"\{(\w+)\}")
Part = Literal["instruction", "format", "guard", "examples", "context", "input"]  # in the order of a rendered prompt
Value = str | int | float


@dataclass(frozen=True, slots=True)
class Slot:
    """The type of what is put where a template has `{name}`: always data, never a turn, a special token or a template.

    kind      "text", "integer", "number", or "choice", one of `options`.
    most      Characters of a text at most; 0: any number.
    default   Its value where none is given; null: one must be.
    """

    kind: Literal["text", "integer", "number", "choice"] = "text"
    options: tuple[str, ...] = ()
    most: int = 0
    default: Value | None = None

    def __post_init__(self) -> None:
        if bool(self.options) != (self.kind == "choice"):
            raise ValueError('kind = "choice" and options belong together')

    def text(self, name: str, value: Any) -> str:
        """The value as it stands in the prompt; ValueError, with the slot's name, for one of another type."""
        kinds = {"integer": int, "number": (int, float)}.get(self.kind, str)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ValueError(f"the slot {name} takes a value of the kind {self.kind}, got {value!r}")
        if self.kind == "choice" and value not in self.options:
            raise ValueError(f"the slot {name}: {unknown('value', str(value), self.options)}")
        if self.most and len(str(value)) > self.most:
            raise ValueError(f"the slot {name} takes {self.most} characters, got {len(str(value))}: shorten the text")
        return str(value)


@dataclass(frozen=True, slots=True)
class Context:
    """Passages that are put before the input.

    template     Of each passage: its columns, such as {text}, and {number}, counted from 1.
    tokens       Of all passages together, at most; 0: all of them. What does not fit is passed over for what does.
    duplicates   From which overlap of word shingles with a better passage one is left out; 0: none is.
    order        "best first" as they come, "best last", or "edges": the best at both ends, since models read the
                 middle of a long context least (Liu et al. 2024, "Lost in the Middle", section 2.3).
    """

    template: str = ""
    tokens: int = 0
    duplicates: float = 0.8
    order: Literal["best first", "best last", "edges"] = "best first"

    def __post_init__(self) -> None:
        if self.tokens < 0 or not 0 <= self.duplicates <= 1:
            raise ValueError("tokens are 0 or more, duplicates lies in [0, 1]")


@dataclass(frozen=True, slots=True)
class Examples:
    """Solved rows, each a user's turn and the answer to it, before the input.

    rows     The prompt's slots and `answer`.
    select   "fixed": the first ones; "similar": those nearest to the input; "diverse": near to the input and unlike
             each other (`few_shot.py`).
    count    So many at most; 0: all.
    tokens   Of all of them together, at most; 0: any number.
    """

    rows: tuple[Mapping[str, Value], ...] = ()
    select: Literal["fixed", "similar", "diverse"] = "fixed"
    count: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Format:
    """The form of an answer, to which decoding holds the model: JSON of a `schema`, one of the `options`, or text that
    the whole `pattern` matches. `text` says so in the prompt."""

    schema: Mapping[str, Any] | None = field(default=None, hash=False)
    options: tuple[str, ...] = ()
    pattern: str = ""
    text: str = ""

    def __post_init__(self) -> None:
        if (self.schema is not None) + bool(self.options) + bool(self.pattern) != 1:
            raise ValueError("a format has one of schema, options and pattern")

    @property
    def constraint(self) -> Constraint:
        if self.schema is not None:
            return JsonSchema(json.dumps(self.schema, ensure_ascii=False))
        return Choice(self.options) if self.options else Regex(self.pattern)

    def accepts(self, answer: str) -> bool:
        """Whether the answer has this form; an expression that takes too long has not accepted it."""
        if self.schema is None:
            with contextlib.suppress(SlowPatternError):
                return answer in self.options or finds(rf"(?a)\A(?:{self.pattern or '(?!)'})\Z", answer)
            return False
        from jsonschema import Draft202012Validator

        try:
            return Draft202012Validator(self.schema).is_valid(json.loads(answer))
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn; greedily unless it says otherwise."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, in parts that are kept, measured and compared apart.

    instruction   What is asked for; with `format.text` and `guard` the system message, where it is not empty.
    input         The user's message, with slots.
    guard         What the model must not do, whatever the input says.
    context, examples, format, slots, sampling   See their classes. Every `{name}` of a template is a slot.
    description   For people.

    ValueError for a template with a slot that is not declared, a slot that stands nowhere, an example without a slot's
    value or with an answer that the format refuses.
    """

    name: str
    input: str
    instruction: str = ""
    guard: str = ""
    slots: Mapping[str, Slot] = field(default_factory=dict, hash=False)
    context: Context = field(default_factory=Context)
    examples: Examples = field(default_factory=Examples)
    format: Format | None = None
    sampling: Sampling = field(default_factory=Sampling)
    description: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]{1,64}", self.name) or self.name.startswith("."):
            raise ValueError(f"a prompt's name has letters, digits, - and _, such as support, got {self.name!r}")
        if not self.input.strip():
            raise ValueError('the input is empty: write the user\'s message, such as "{question}"')
        used = {name for text in self.templates.values() for name in SLOT.findall(text)}
        if undeclared := sorted(used - set(self.slots)):
            raise ValueError(f"the slot {undeclared[0]} is not declared: add [slots.{undeclared[0]}]")
        if unused := sorted(set(self.slots) - used):
            raise ValueError(f"the slot {unused[0]} stands in no template: write {{{unused[0]}}} where it belongs")
        for number, row in enumerate(self.examples.rows, 1):
            needed = {*SLOT.findall(self.input), "answer"}
            if lacking := sorted(needed - set(row)):
                raise ValueError(f"example {number} has no {lacking[0]}: an example has {', '.join(sorted(needed))}")
            if self.format is not None and not self.format.accepts(str(row["answer"])):
                raise ValueError(f"the answer of example {number} is none that the format accepts: {row['answer']!r}")

    @property
    def templates(self) -> dict[Part, str]:
        """The texts that have the prompt's slots, by part."""
        said = self.format.text if self.format is not None else ""
        return {"instruction": self.instruction, "format": said, "guard": self.guard, "input": self.input}

    def parts(self) -> Iterator[tuple[str, Any]]:
        """The parts and settings by name, as two versions are compared."""
        for name in ("instruction", "guard", "context", "examples", "format", "input", "slots", "sampling"):
            yield name, getattr(self, name)
