"""Configuration of the interaction log (location, retention, redaction) and of reviews."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lmworks.config import positive, unknown, within
from lmworks.limited_regex import compile_pattern

# The rules of `redaction.py`, in the order in which they are applied.
RULES = ("secret", "email", "iban", "credit_card", "ip_address", "phone")


@dataclass(frozen=True, slots=True)
class LogConfig:
    """The policy of a log.

    `location` is the path of an SQLite file or "postgresql://..."; empty leaves the choice to whoever opens the log.
    `retention_days` 0 keeps everything. `redact` names rules of `RULES`; `patterns` adds own ones, from a name to a
    regular expression. What a rule finds is replaced by its name in brackets before anything is written. `content`
    False keeps no text at all: numbers, hashes and spans only.
    """

    location: str = ""
    retention_days: float = 0.0
    redact: tuple[str, ...] = ()
    patterns: Mapping[str, str] = field(default_factory=dict)
    content: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.retention_days < math.inf:
            raise ValueError(f"retention_days must be 0 (keep everything) or positive, got {self.retention_days}")
        for name in self.redact:
            if name not in RULES:
                raise ValueError(unknown("redaction rule", name, RULES))
        for name, pattern in self.patterns.items():
            _check_pattern(name, pattern)


def _check_pattern(name: str, pattern: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in RULES or name == "content":
        raise ValueError(
            f"the name of a pattern needs lower-case letters, digits and _, and must not be that of a rule: {name!r}"
        )
    try:
        matches_nothing = compile_pattern(pattern).search("") is not None
    except ValueError as error:
        raise ValueError(f"the pattern {name}: {error}") from error
    if matches_nothing:
        raise ValueError(f"the pattern {name} matches the empty text, so it would match everywhere: {pattern!r}")


@dataclass(frozen=True, slots=True)
class ReviewRule:
    """A rule that draws interactions for review.

    rate    share of the interactions that it applies to which it draws.
    filter  of the log, such as "confidence<0.5"; "" applies to all.
    kind    filter; disagreement: a judge's outcome and a person's thumb say the opposite; novelty: a question unlike
            those of the weeks before, by the embeddings in the log.
    """

    rate: float
    filter: str = ""
    kind: Literal["filter", "disagreement", "novelty"] = "filter"

    def __post_init__(self) -> None:
        positive(up_to=1, rate=self.rate)


_RULES = {
    "random": ReviewRule(0.02),
    "low confidence": ReviewRule(0.1, "confidence<0.5"),
    "thumbs down": ReviewRule(1.0, "thumbs:down"),
    "disagreement": ReviewRule(1.0, kind="disagreement"),
    "novelty": ReviewRule(0.2, kind="novelty"),
}
_RUBRIC = {
    "verdict": ("good", "bad", "unsure"),
    "problem": (
        "none",
        "wrong",
        "unsupported",
        "incomplete",
        "should have answered",
        "should have abstained",
        "harmful",
    ),
}


@dataclass(frozen=True, slots=True)
class ReviewConfig:
    """The file `review.toml` of a workspace: what is reviewed, and by which rubric.

    rules         by name; one without a filter, such as "random", makes the estimates those of all traffic.
    rubric        questions with their answers. Of the first question the first answer is good and the second bad; any
                  other one is no verdict.
    second        share of the queue that a second person reviews.
    lock_minutes  for which an interaction stays with the person that it was given to.
    judge         name of the outcome in which a judge's score between 0 and 1 stands.
    """

    rules: Mapping[str, ReviewRule] = field(default_factory=lambda: _RULES)
    rubric: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _RUBRIC)
    second: float = 0.2
    lock_minutes: float = 10.0
    judge: str = "judge"

    def __post_init__(self) -> None:
        within(0, 1, second=self.second)
        positive(lock_minutes=self.lock_minutes)
        if not self.rubric or len(next(iter(self.rubric.values()))) < 2:
            raise ValueError("a rubric begins with a question that has two answers at least: the good one, the bad one")
