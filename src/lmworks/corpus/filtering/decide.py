"""What each step of a policy says about the documents of one shard, looked at one by one: no text is read for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lmworks.corpus.attributes import AttributeTable, of_rules, rules_of
from lmworks.corpus.filtering.filter_policy import LICENCES, Choice, Limit, Policy, Step
from lmworks.corpus.licence_expressions import LicencePolicy

Outcome = Literal["stays", "goes", "refused"]
_UNKNOWN: dict[str, Outcome] = {"keep": "stays", "drop": "goes", "refuse": "refused"}


@dataclass(frozen=True, slots=True)
class Reason:
    """One rule against one document: what was measured, and the threshold that it does not meet. Of a label, the
    `label` it has; of a twin, the uri of the document that stays."""

    rule: str
    value: float | None = None
    threshold: float | None = None
    label: str | None = None
    twin: str | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """A place of the repaired text that goes, or is written otherwise: `[start, end)` becomes `replacement`."""

    start: int
    end: int
    replacement: str
    rule: str


@dataclass(frozen=True, slots=True)
class FieldFind:
    """A place of personal data in a field of a document: whether a step took all of it out."""

    field: Literal["title", "metadata", "uri"]
    rule: str
    removed: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """What one step says about the documents of a shard: place in the shard → reasons to drop it, places to cut."""

    reasons: dict[int, list[Reason]]
    cuts: dict[int, list[Cut]]


def judge(policy: Policy, table: AttributeTable) -> list[Judged]:
    """For each step what it says by itself, whatever other steps and documents are; duplicates come later."""
    return [_judge_step(step, table, looked_at(step, table)) for step in policy.steps]


def looked_at(step: Step, table: AttributeTable) -> NDArray[np.bool_]:
    """(n,) bool: the documents that the step is about."""
    return step.in_scope(table.sources, table.kinds, table.labels.get("language"))


def outcome_of(name: str, choice: Choice, label: str | None) -> Outcome:
    """What becomes of a document whose label of this name is `label`, or which has none.

    Labels of licences are expressions of SPDX, such as "MIT OR GPL-2.0-only"; one that the lists do not decide goes
    where any are allowed, since it is none of them; and stays otherwise, since it is none of those denied. Other labels
    are compared as they are.
    """
    if label is None:
        return _UNKNOWN[choice.unknown]
    if name in LICENCES:
        verdict = LicencePolicy(choice.allow, choice.deny).verdict(label)
        return "goes" if verdict == "denied" or (verdict == "unknown" and choice.allow) else "stays"
    return "goes" if label in choice.deny or (choice.allow and label not in choice.allow) else "stays"


def type_in_place(rule: str) -> str:
    """What is written where a mark is redacted: `<EMAIL>` of the rule `pii.email`.

    It holds no digit and no sign that could be found in turn, and no find of personal data crosses its brackets: so a
    text that was redacted is clean, whatever stood beside the finds.
    """
    return f"<{rule.rpartition('.')[2].upper()}>"


def _judge_step(step: Step, table: AttributeTable, looked_at: np.ndarray) -> Judged:
    judged = Judged({}, {})
    for name, limit in step.all_limits.items():
        if name in table.scores:
            _compare(name, limit, table.scores[name], looked_at, judged)
    for name, choice in step.labels.items():
        _choose(name, choice, table.labels.get(name) or [None] * len(table), looked_at, judged)
    if step.marks:
        _look_at_marks(step, table, looked_at, judged)
    return judged


def _compare(name: str, limit: Limit, values: np.ndarray, looked_at: np.ndarray, judged: Judged) -> None:
    """Comparisons with NaN are false, so a measure that does not apply drops nothing."""
    low, high = limit.bounds
    for threshold, beyond in ((low, values < low), (high, values > high)):
        for place in np.flatnonzero(beyond & looked_at):
            judged.reasons.setdefault(int(place), []).append(Reason(name, float(values[place]), threshold))


def _choose(name: str, choice: Choice, labels: Sequence[str | None], looked_at: np.ndarray, judged: Judged) -> None:
    """A document that is refused is written down as one that goes: see `evaluation_refusal.py`. Few words of a label
    differ, so each is decided once."""
    outcomes: dict[str | None, Outcome] = {label: outcome_of(name, choice, label) for label in set(labels)}
    for place in np.flatnonzero(looked_at).tolist():
        label = labels[place]
        if outcomes[label] != "stays":
            judged.reasons.setdefault(place, []).append(Reason(name, label=label or "unknown"))


def _look_at_marks(step: Step, table: AttributeTable, looked_at: np.ndarray, judged: Judged) -> None:
    """There are many marks of few rules, most of which a step says nothing about."""
    wanted = {rule: found for rule in rules_of(table.spans) if (found := step.on_mark(rule)) is not None}
    for place, mark in of_rules(table.spans, wanted):
        found = wanted[mark.rule]
        if not looked_at[place] or mark.score < found.at_least:
            continue
        if found.action == "drop":
            judged.reasons.setdefault(place, []).append(Reason(mark.rule, mark.score, found.at_least))
        else:
            replacement = type_in_place(mark.rule) if found.action == "redact" else ""
            judged.cuts.setdefault(place, []).append(Cut(mark.start, mark.end, replacement, mark.rule))
