"""Configuration of the interaction log: location, retention, redaction."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lmworks.config import unknown

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
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"the pattern {name} is not a regular expression: {error}") from error
    if compiled.search(""):
        raise ValueError(f"the pattern {name} matches the empty text, so it would match everywhere: {pattern!r}")
