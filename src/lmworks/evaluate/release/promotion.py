"""Who gave which version a label when, why, and after which gate: rows of a file that is only appended to.

A system's versions have one label, "production"; a prompt's may have several. The way back is read from the rows.
"""

import getpass
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lmworks.artefact import read_rows

PRODUCTION, CANDIDATE = "production", "candidate"


@dataclass(frozen=True, slots=True)
class Gate:
    """An offline comparison that a version has to pass before it goes live: non-inferiority in every metric of
    `margins`, over the same items. `text` is its table; `runs` are the folders that were compared, new and old."""

    passed: bool
    text: str
    margins: Mapping[str, float]
    runs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Promotion:
    """A version gets a label; `before` is the version that had it, `loop` the folder of what made this one.

    "proposed" moves nothing: it waits for a second person, who is `who` of the row that moves the label, and its own
    `who` is that row's `proposer`.
    """

    version: str
    before: str
    time: float
    who: str
    reason: str
    kind: Literal["promoted", "rolled back", "proposed"] = "promoted"
    gate: Gate | None = None
    experiment: str = ""
    loop: str = ""
    label: str = PRODUCTION
    proposer: str = ""

    def __str__(self) -> str:
        return f"{self.version} is live ({self.kind}: {self.reason}); before it was {self.before}"


class GateError(ValueError):
    """A version that may not go live; the message says what it lacks."""


def read_promotions(path: Path, label: str = PRODUCTION) -> list[Promotion]:
    """The history of a label, oldest first."""
    return [one for one in read_rows(Promotion, path) if one.label == label] if path.exists() else []


def carriers(history: Sequence[Promotion]) -> list[str]:
    """The versions that a rollback goes back through, the present one last; "" is none."""
    stack: list[str] = []
    for one in history:
        if one.kind != "proposed":
            stack = stack or [one.before]
            stack = stack[: stack.index(one.version) + 1] if one.version in stack else [*stack, one.version]
    return stack


def check_promotion(version: str, gate: Gate | None, reason: str) -> None:
    """GateError without a reason, or where the gate was not passed."""
    if not reason.strip():
        raise GateError("a version goes live for a reason: say it with --reason")
    if gate is not None and not gate.passed:
        raise GateError(f"{version} does not pass the gate, so it does not go live:\n{gate.text}")


def acting(who: str) -> str:
    """The name of a person: the user of this machine where none is given."""
    return who or getpass.getuser()
