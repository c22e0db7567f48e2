"""A policy: which scores, labels, spans and duplicates make a document go, and which of its parts.

A policy is steps in an order. A step looks at all documents of its sources, kinds and languages, also at those which an
earlier one dropped, so that the ledger knows all reasons; the first step that drops one is the one that did. Steps on
duplicates look only at what is left.
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.resources import files
from itertools import chain, combinations
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lmworks.config import ConfigError, from_mapping, positive, within
from lmworks.corpus.attributes import AttributeTable
from lmworks.corpus.documents import Kind
from lmworks.corpus.languages import DECLARED, MEASURED, check_language
from lmworks.corpus.licence_expressions import check_entry
from lmworks.corpus.taggers.heuristics import PRESETS, Preset

DuplicateMethod = Literal["", "exact", "near", "paragraphs", "passages", "repositories"]
REPAIR, EMPTY = RESERVED = ("repair", "nothing_left")  # the ledger's steps before and after those of a policy
SIMILARITY = 0.8  # of near duplicates and of repositories, where a step does not say
_SHARES = ("_share", "contamination")  # ends of the names of scores that lie between 0 and 1
LICENCES = ("licence", "licence_of_source", "licence_in_text")  # labels that are expressions of licences


@dataclass(frozen=True, slots=True)
class Limit:
    """Which values of a score let a document stay; one that does not apply to a document does.

    at_least  The lowest.
    at_most   The highest.
    """

    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        low, high = self.bounds
        if low == -math.inf and high == math.inf:
            raise ValueError("a limit needs at_least or at_most, a finite number")
        if not (low < math.inf and high > -math.inf):  # NaN is neither
            raise ValueError(f"at_least and at_most must be finite numbers, got {low} and {high}")
        if low > high:
            raise ValueError(f"at_least ({low:g}) is above at_most ({high:g}): nothing would stay")

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest value that stays, infinite where there is none."""
        low, high = self.at_least, self.at_most
        return -math.inf if low is None else low, math.inf if high is None else high

    def __str__(self) -> str:
        bounds = (("≥", self.at_least), ("≤", self.at_most))
        return " ".join(f"{sign} {value:,.6g}" for sign, value in bounds if value is not None)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which words of a label let a document stay. Those of licences are names, globs or groups (`permissive`), and what
    a document has is an expression of them, of which the licences decide together.

    allow    Only these, where any are named.
    deny     None of these.
    unknown  What becomes of a document without this label: `keep` or `drop` it, or `refuse` to clean anything while
             there is one.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    unknown: Literal["keep", "drop", "refuse"] = "keep"

    def __post_init__(self) -> None:
        if both := sorted({*self.allow} & {*self.deny}):
            raise ValueError(f"{', '.join(both)} cannot be both allowed and denied")

    @property
    def entries(self) -> tuple[str, ...]:
        return (*self.allow, *self.deny)


@dataclass(frozen=True, slots=True)
class OnSpan:
    """The action on a tagged span.

    action    `cut` takes it out, `redact` writes its type in its place, `drop` drops the document that holds one.
    at_least  Only of spans with this score or a higher one.
    """

    action: Literal["drop", "cut", "redact"] = "cut"
    at_least: float = 0.0

    def __post_init__(self) -> None:
        within(0, 1, at_least=self.at_least)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a policy.

    name        What the ledger and the report call it.
    preset      Published limits: `gopher`, `gopher_repetition`, `c4` or `fineweb`; `limits` may change some of them.
    limits      Score → its limit.
    labels      Label → which of its words may stay, such as language and licence.
    marks       Rule of spans, or a glob such as "pii.*" → what becomes of the spans.
    duplicates  Which duplicates go but for one: `exact` or `near` ones of documents, whole `repositories`; of
                `paragraphs` and `passages` the repeated places are cut.
    similarity  Of `near` and `repositories` only: the least Jaccard similarity of near duplicates; of repositories, the
                least share of the files of a copy that another one has.
    sources     The step looks only at documents of these sources (globs of the first part of the uri).
    kinds       … of these kinds: web, manual, book, code, mail, chat or text.
    languages   … in these languages, where it is known.
    """

    name: str
    preset: Preset | Literal[""] = ""
    limits: Mapping[str, Limit] = field(default_factory=dict)
    labels: Mapping[str, Choice] = field(default_factory=dict)
    marks: Mapping[str, OnSpan] = field(default_factory=dict)
    duplicates: DuplicateMethod = ""
    similarity: float = SIMILARITY
    sources: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    languages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"the name of a step is letters, digits and _, got {self.name!r}")
        if self.name in RESERVED:
            raise ValueError(f"{self.name} is what the ledger calls a step of its own: give this one another name")
        positive(up_to=1, similarity=self.similarity)
        if not (self.preset or self.limits or self.labels or self.marks or self.duplicates):
            raise ValueError(f"the step {self.name} decides nothing: give it limits, labels, marks or duplicates")
        if self.similarity != SIMILARITY and self.duplicates not in ("near", "repositories"):
            raise ValueError(
                f'similarity says nothing in the step {self.name}: it is for duplicates = "near" or "repositories"'
            )
        for name, limit in self.limits.items():
            if name.endswith(_SHARES) and any(not 0 <= bound <= 1 for bound in limit.bounds if math.isfinite(bound)):
                raise ValueError(f"limits.{name}: a share lies between 0 and 1, got {limit}: 80 % are 0.8")
        choices = [self.labels[name].entries for name in (MEASURED, DECLARED) if name in self.labels]
        for language in chain(self.languages, *choices):
            check_language(language)
        for entry in (entry for name in LICENCES if (choice := self.labels.get(name)) for entry in choice.entries):
            check_entry(entry)
        for earlier, later in combinations(self.marks, 2):
            is_plain = not any(sign in later for sign in "*?[")  # `*` matches the signs of a glob too, `?` and `[` not
            if fnmatchcase(later, earlier) and (is_plain or not any(sign in earlier for sign in "?[")):
                raise ValueError(
                    f'marks: "{earlier}" stands before "{later}" and matches all that this one does, so it would never '
                    f'be used: put "{later}" first'
                )

    @property
    def all_limits(self) -> Mapping[str, Limit]:
        """Those of the preset, as `limits` changes them."""
        preset = {name: Limit(low, high) for name, low, high in PRESETS[self.preset]} if self.preset else {}
        return {**preset, **self.limits}

    def on_span(self, rule: str) -> OnSpan | None:
        """The action on a span of this rule: the first glob that matches it says so."""
        return next((action for glob, action in self.marks.items() if fnmatchcase(rule, glob)), None)

    def __str__(self) -> str:
        """Its rules, such as 'gopher; words ≥ 30; pii.*: redact ≥ 0.5'."""
        rules = [self.preset] * bool(self.preset) + [f"{name} {limit}" for name, limit in self.limits.items()]
        for name, choice in self.labels.items():
            for words, said in ((choice.allow, "in"), (choice.deny, "not in")):
                rules += [f"{name} {said} {', '.join(words)}"] * bool(words)
            rules.append(f"{name} unknown: {choice.unknown}")
        for glob, found in self.marks.items():
            rules.append(f"{glob}: {found.action}" + (f" ≥ {found.at_least:g}" if found.at_least else ""))
        if self.duplicates:
            least = f" ≥ {self.similarity:g}" if self.duplicates in ("near", "repositories") else ""
            rules.append(f"duplicates: {self.duplicates}{least}")
        return "; ".join(rules)


def in_scope(step: Step, table: AttributeTable) -> NDArray[np.bool_]:
    """(n,) bool: which documents a step looks at. One of unknown language is looked at by steps for any language."""

    def is_for(source: str, kind: str, language: str | None) -> bool:
        return (
            (not step.sources or any(fnmatchcase(source, glob) for glob in step.sources))
            and (not step.kinds or kind in step.kinds)
            and (not step.languages or language is None or language in step.languages)
        )

    documents = list(zip(table.sources, table.kinds, table.labels.get("language") or [None] * len(table), strict=True))
    looked_at = {each: is_for(*each) for each in set(documents)}
    return np.array([looked_at[each] for each in documents], bool)


@dataclass(frozen=True, slots=True)
class Policy:
    """The steps that decide what becomes of documents.

    steps  In this order.
    alarm  Share of the documents or bytes of a source, a kind or a language; a step that takes more raises an alarm.
    """

    steps: tuple[Step, ...] = ()
    alarm: float = 0.3

    def __post_init__(self) -> None:
        names = [step.name for step in self.steps]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two steps are called {', '.join(twice)}: give each step its own name")
        positive(up_to=1, alarm=self.alarm)

    @property
    def names(self) -> tuple[str, ...]:
        """The steps of the ledger: repair, those of the policy, and the one that drops documents without text."""
        return (REPAIR, *(step.name for step in self.steps), EMPTY)


def read_policy(path: Path) -> Policy:
    """A policy in TOML: `alarm`, and `[[steps]]` in their order. ConfigError names the key that is wrong."""
    try:
        mapping = tomllib.loads(path.read_text("utf-8-sig"))  # some editors write a byte-order mark
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError((str(path),), f"not TOML: {error}") from error
    policy = from_mapping(Policy, mapping, (str(path),))
    if not policy.steps:
        raise ConfigError((str(path), "steps"), "there are none, so nothing would be decided: give it [[steps]]")
    return policy


def default_policy() -> Policy:
    """The one that comes with the package."""
    return from_mapping(Policy, tomllib.loads(default_policy_text()))


def default_policy_text() -> str:
    """The same as TOML, with its comments: the file `default_policy.toml`."""
    return (files("lmworks.corpus.filtering") / "default_policy.toml").read_text("utf-8")
