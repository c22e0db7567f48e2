"""A policy: which measures, labels, marks and duplicates make a document go, and which of its parts.

A policy is steps in an order. A step looks at all documents of its sources, kinds and languages, also at those which an
earlier one dropped, so that the ledger knows all reasons; the first step that drops one is the one that did. Steps on
duplicates look only at what is left.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lmworks.config import ConfigError, from_mapping
from lmworks.corpus.attributes import Kind
from lmworks.corpus.licence_expressions import check_entry
from lmworks.corpus.taggers.heuristics import PRESETS, Preset

Action = Literal["drop", "cut", "redact"]
REPAIR, EMPTY = RESERVED = ("repair", "nothing_left")  # the ledger's steps before and after those of a policy
Duplicates = Literal["", "exact", "near", "paragraphs", "passages", "repositories"]


@dataclass(frozen=True, slots=True)
class Limit:
    """Which values of a measure let a document stay; one that does not apply to a document does.

    at_least  The lowest.
    at_most   The highest.
    """

    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a limit needs at_least or at_most")
        for name, value in (("at_least", self.at_least), ("at_most", self.at_most)):
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, got {value}")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least ({self.at_least:g}) is above at_most ({self.at_most:g}): nothing would stay")

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest value that stays, infinite where there is none."""
        return (
            -math.inf if self.at_least is None else self.at_least,
            math.inf if self.at_most is None else self.at_most,
        )

    def __str__(self) -> str:
        bounds = (("≥", self.at_least), ("≤", self.at_most))
        return " ".join(f"{sign} {value:,.6g}" for sign, value in bounds if value is not None)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which words of a label let a document stay. Those of licences are names, globs or groups (`permissive`), and what
    a document has is an expression of them, of which the licences decide together: see `licence_expressions.py`.

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


SIMILARITY = 0.8  # of near duplicates and of repositories, where a step does not say
LICENCES = ("licence", "licence_of_source", "licence_in_text")  # labels that are expressions of licences


def check_choice(label: str, choice: Choice) -> None:
    """ValueError where an entry for a label of licences can be none."""
    if label in LICENCES:
        for entry in (*choice.allow, *choice.deny):
            check_entry(entry)


@dataclass(frozen=True, slots=True)
class OnMark:
    """What becomes of a marked place.

    action    `cut` takes it out, `redact` writes its type in its place, `drop` drops the document that holds one.
    at_least  Only of marks with this score or a higher one.
    """

    action: Action = "cut"
    at_least: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.at_least <= 1:
            raise ValueError(f"at_least is a score from 0 to 1, got {self.at_least:g}: nothing else is ever reached")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a policy.

    name        What the ledger and the report call it.
    preset      Published limits: `gopher`, `gopher_repetition`, `c4` or `fineweb`; `limits` may change some of them.
    limits      Measure → its limit.
    labels      Label → which of its words may stay, such as language and licence.
    marks       TaggedSpan, or a glob of marks such as "pii.*" → what becomes of its place.
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
    marks: Mapping[str, OnMark] = field(default_factory=dict)
    duplicates: Duplicates = ""
    similarity: float = SIMILARITY
    sources: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    languages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"the name of a step is letters, digits and _, got {self.name!r}")
        if self.name in RESERVED:
            raise ValueError(f"{self.name} is what the ledger calls a step of its own: give this one another name")
        if not 0 < self.similarity <= 1:
            raise ValueError(f"similarity must be above 0 and at most 1, got {self.similarity:g}")
        if not (self.preset or self.limits or self.labels or self.marks or self.duplicates):
            raise ValueError(f"the step {self.name} decides nothing: give it limits, labels, marks or duplicates")
        if self.similarity != SIMILARITY and self.duplicates not in ("near", "repositories"):
            raise ValueError(
                f'similarity says nothing in the step {self.name}: it is for duplicates = "near" or "repositories"'
            )
        for label, choice in self.labels.items():
            check_choice(label, choice)
        for earlier, later in combinations(self.marks, 2):
            if _covers(earlier, later):
                raise ValueError(
                    f'marks: "{earlier}" stands before "{later}" and matches all that this one does, so it would never '
                    f'be used: put "{later}" first'
                )

    @property
    def all_limits(self) -> Mapping[str, Limit]:
        """Those of the preset, as `limits` changes them."""
        preset = {name: Limit(low, high) for name, low, high, _ in PRESETS[self.preset]} if self.preset else {}
        return {**preset, **self.limits}

    def __str__(self) -> str:
        """Its rules, such as 'words ≥ 50; pii.*: redact ≥ 0.5'."""
        rules = [f"{name} {limit}" for name, limit in self.all_limits.items()]
        for name, choice in self.labels.items():
            rules += [f"{name} in {', '.join(choice.allow)}"] * bool(choice.allow)
            rules += [f"{name} not in {', '.join(choice.deny)}"] * bool(choice.deny)
            rules += [f"{name} unknown: {choice.unknown}"]
        for glob, found in self.marks.items():
            rules.append(f"{glob}: {found.action}" + (f" ≥ {found.at_least:g}" if found.at_least else ""))
        if self.duplicates:
            rules.append(f"duplicates: {self.duplicates}")
            rules[-1] += f" ≥ {self.similarity:g}" * (self.duplicates in ("near", "repositories"))
        return (f"{self.preset}: " if self.preset else "") + "; ".join(rules)

    @property
    def scope(self) -> str:
        """Which documents it looks at."""
        parts = [*self.sources, *self.kinds, *self.languages]
        return ", ".join(parts) or "all"

    def on_mark(self, rule: str) -> OnMark | None:
        """What becomes of a mark of this rule: the first glob that matches it says so."""
        return next((action for glob, action in self.marks.items() if fnmatchcase(rule, glob)), None)

    def in_scope(
        self, sources: Sequence[str], kinds: Sequence[str], languages: Sequence[str | None] | None
    ) -> NDArray[np.bool_]:
        """(n,) bool: which of n documents the step looks at; `languages` is None where nobody knows any."""
        documents = list(zip(sources, kinds, languages or [None] * len(sources), strict=True))
        looked_at = {each: self.looks_at(*each) for each in set(documents)}
        return np.array([looked_at[each] for each in documents], bool)

    def looks_at(self, source: str, kind: str, language: str | None) -> bool:
        return (
            (not self.sources or any(fnmatchcase(source, glob) for glob in self.sources))
            and (not self.kinds or kind in self.kinds)
            and (not self.languages or language is None or language in self.languages)
        )


def _covers(earlier: str, later: str) -> bool:
    """Whether a glob surely matches all that a later one does: `*` also stands for the signs of a glob, the other signs
    do not."""
    is_plain = not any(sign in later for sign in "*?[")
    return fnmatchcase(later, earlier) and (is_plain or not any(sign in earlier for sign in "?["))


@dataclass(frozen=True, slots=True)
class Policy:
    """What becomes of the documents.

    steps  In this order.
    alarm  What takes more than this share of the documents or bytes of a source, a folder or a kind is told of, loudly.
    """

    steps: tuple[Step, ...] = ()
    alarm: float = 0.3

    def __post_init__(self) -> None:
        names = [step.name for step in self.steps]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two steps are called {', '.join(twice)}: the ledger could not tell them apart")
        if not 0 < self.alarm <= 1:
            raise ValueError(f"alarm is a share above 0 and at most 1, got {self.alarm:g}")


def read_policy(path: Path) -> Policy:
    """A policy in TOML: `alarm`, and `[[steps]]` in their order. ConfigError names the key that is wrong."""
    try:
        mapping = tomllib.loads(path.read_text("utf-8-sig"))  # some editors write a byte-order mark
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError((str(path),), f"not TOML: {error}") from error
    return from_mapping(Policy, mapping, (str(path),))


def default_policy() -> Policy:
    """The one that comes with the package."""
    return from_mapping(Policy, tomllib.loads(default_policy_text()))


def default_policy_text() -> str:
    """The same as TOML, with its comments: the file `default_policy.toml`."""
    return (files("lmworks.corpus.filtering") / "default_policy.toml").read_text("utf-8")
