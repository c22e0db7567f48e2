"""Experiments on live requests: reading and checking a spec, who sees which arm, and the events since.

`lmworks experiment new` writes an example of a spec; `unit_metrics.py` says what can be measured. What an experiment is
stands in the log's table `experiments` and never changes; what happens to it are rows of `experiment_events`, to which
is only added: started, ramped, killed, stopped, decided.
"""

import hashlib
import json
from bisect import bisect
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from lmworks.config import ConfigError, from_mapping, read_toml, to_mapping, unknown
from lmworks.monitor.log import Log, Reader
from lmworks.monitor.unit_metrics import parse_metric
from lmworks.records import Assignment, Experiment

KINDS = ("model", "version", "settings")  # of what an arm may differ in


def read_experiment(path: Path) -> Experiment:
    """The spec in a TOML file; ConfigError names the key and what is allowed."""
    return checked(read_toml(Experiment, path))


def checked(experiment: Experiment) -> Experiment:
    """The experiment itself; ConfigError for what types cannot say."""
    arms, ramp, name = experiment.arms, experiment.ramp, [experiment.name]
    if not 0 < len(experiment.name) <= 64 or not experiment.name.isprintable():
        raise ConfigError(["name"], "needs 1 to 64 printable characters")
    for arm, table in arms.items():
        path, share = [*name, "arms", arm], table.get("share")
        if wrong := table.keys() - {"share", *KINDS}:
            raise ConfigError(path, unknown("key", min(wrong), ("share", *KINDS)))
        if len(table) > 2:
            raise ConfigError(path, f"an arm has at most one of {', '.join(KINDS)}")
        if not isinstance(share, int | float) or not 0 < share <= 1:
            raise ConfigError([*path, "share"], f"a number in (0, 1] is needed, got {share!r}")
    if len(arms) < 2 or abs(sum(table["share"] for table in arms.values()) - 1) > 1e-6:
        raise ConfigError([*name, "arms"], "two arms or more are needed, whose shares add up to 1")
    for metric in (experiment.metric, *experiment.guardrails):
        try:
            parse_metric(metric)
        except ValueError as error:
            raise ConfigError([*name, "metric"], str(error)) from error
    if any(margin <= 0 for margin in experiment.guardrails.values()):
        raise ConfigError([*name, "guardrails"], "a margin, how much worse it may become, must be above 0")
    if not ramp or list(ramp) != sorted(ramp) or not 0 < ramp[0] <= ramp[-1] <= 1:
        raise ConfigError([*name, "ramp"], f"shares in (0, 1] that grow, such as [0.1, 1.0], got {list(ramp)}")
    if not 0 < experiment.alpha < 0.5 or experiment.window_days <= 0 or experiment.minimum_effect < 0:
        raise ConfigError(name, "alpha lies in (0, 0.5), window_days is above 0, minimum_effect is not below")
    return experiment


def assign(experiment: Experiment, unit: str, share: float, time: float) -> Assignment | None:
    """The arm of a unit, or None where it is not among the `share` of units that take part.

    A hash decides, so that a unit has one arm for good, on every server, and a larger share only adds units.
    """
    position, draw = (uniform(experiment.name, purpose, unit) for purpose in ("share", "arm"))
    if not unit or position >= share:
        return None
    ends = list(accumulate(table["share"] for table in experiment.arms.values()))
    arm = list(experiment.arms)[min(bisect(ends, draw), len(ends) - 1)]
    return Assignment(experiment.name, unit, arm, time, experiment.arms[arm]["share"])


def uniform(*texts: str) -> float:
    """A number in [0, 1) that belongs to these texts for good: 53 bits of their SHA-256."""
    digest = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


@dataclass(frozen=True, slots=True)
class Event:
    """A row of `experiment_events`."""

    time: float
    kind: str
    value: Mapping[str, Any]
    author: str
    reason: str


@dataclass(frozen=True, slots=True)
class ExperimentState:
    """An experiment, and what has happened to it, oldest first."""

    experiment: Experiment
    events: tuple[Event, ...]

    @property
    def status(self) -> Literal["new", "running", "stopped"]:
        if not self.events:
            return "new"
        return "running" if self.events[-1].kind in ("started", "ramped") else "stopped"

    @property
    def share(self) -> float:
        """Share of all units that take part; 0 while it does not run."""
        return self.events[-1].value["share"] if self.status == "running" else 0.0

    @property
    def next_share(self) -> float | None:
        """The next step of the ramp; None at its end."""
        return next((share for share in self.experiment.ramp if share > self.share), None)


def start(log: Log, experiment: Experiment, time: float, reason: str, author: str = "") -> None:
    """Begin an experiment with the first share of its ramp; ValueError where its name or its route is taken,
    or the log would redact a name in it."""
    states = {state.experiment.name: state for state in read_states(log.reader)}
    for name, state in states.items():
        if state.status == "running" and state.experiment.route == experiment.route:
            raise ValueError(f"{name} runs on {experiment.route} already: stop it first")
    known = states.get(experiment.name)
    if known and (known.events or known.experiment != experiment):  # else a start was killed in between
        raise ValueError(f"there is an experiment {experiment.name!r}; what is measured never changes: give a new name")
    row = {"name": experiment.name, "time": time, "record": to_mapping(replace(experiment, description=""))}
    if log.reader.redactor.row(row) != row:
        raise ValueError(f"{experiment.name}: the log's redaction finds personal data in its names: choose others")
    log.append("experiments", [{**row, "record": to_mapping(experiment)}])
    add_event(log, experiment.name, "started", time, reason, author, {"share": experiment.ramp[0]})


def add_event(
    log: Log, experiment: str, kind: str, time: float, reason: str, author: str = "", value: Mapping[str, Any] = {}
) -> None:
    row = {"experiment": experiment, "time": time, "kind": kind, "value": value, "author": author, "reason": reason}
    log.append("experiment_events", [row]).result()


def change_state(
    log: Log, name: str, kind: Literal["ramped", "stopped"], time: float, reason: str, who: str = ""
) -> ExperimentState:
    """Take the next step of the ramp, or stop; its state after it. ValueError where there is nothing to change."""
    state = read_state(log.reader, name)
    share = state.next_share if kind == "ramped" else 0.0
    if state.status != "running" or share is None or not reason:
        held = f"it is {state.status}, with {state.share:.0%} of units"
        raise ValueError(f"{name} cannot be {kind}: {held if reason else 'give a reason'}")
    add_event(log, name, kind, time, reason, who, {"share": share} if share else {})
    return read_state(log.reader, name)


def read_states(reader: Reader) -> list[ExperimentState]:
    """The experiments with their events, the newest first."""
    events: dict[str, list[Event]] = defaultdict(list)
    columns = "experiment, time, kind, value, author, reason"
    for experiment, time, kind, value, *origin in reader.rows("experiment_events", columns, "1 = 1 ORDER BY key"):
        events[experiment].append(Event(time, kind, json.loads(value), *origin))
    rows = reader.rows("experiments", "name, record", "1 = 1 ORDER BY time DESC, key DESC")
    return [
        ExperimentState(from_mapping(Experiment, json.loads(record), [key]), tuple(events[key])) for key, record in rows
    ]


def read_state(reader: Reader, name: str) -> ExperimentState:
    """The experiment of this name; LookupError names those that there are."""
    states = {state.experiment.name: state for state in read_states(reader)}
    if name not in states:
        raise LookupError(unknown("experiment", name, list(states)))
    return states[name]
