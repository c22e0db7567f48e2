"""Experiments on live requests: reading and checking a spec, who sees which arm, and the course of events.

    name = "warmer"
    metric = "thumbs"                       # the one that decides; see unit_metrics.py for what can be measured
    unit = "conversation"                   # or "user"
    minimum_effect = 0.05
    planned_units = 2500
    guardrails = { "seconds>4" = 0.02, abstained = 0.03 }   # how much worse each may become
    ramp = [0.1, 1.0]
    [arms.control]                          # the first arm, as it is now
    share = 0.5
    [arms.candidate]
    share = 0.5
    version = "candidate"                   # or: model = "a served name", settings = { temperature = 0.7 }

What an experiment is stands in the log's table `experiments` and never changes; what happens to it are rows of
`experiment_events`, to which is only added: started, ramped, killed, stopped, decided.
"""

import hashlib
import json
import tomllib
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from lmworks.config import ConfigError, from_mapping, to_mapping, unknown
from lmworks.monitor.log import Log, Reader
from lmworks.monitor.unit_metrics import parse_metric
from lmworks.records import Assignment, Experiment

KINDS = ("model", "version", "settings")  # of what an arm may differ in
Status = Literal["new", "running", "stopped"]
Change = Literal["ramped", "stopped"]
WAIT = 30.0  # seconds for a row of the log to be committed


def read_experiment(path: Path) -> Experiment:
    """The spec in a TOML or JSON file; ConfigError names the key and what is allowed."""
    read = json.loads if path.suffix == ".json" else tomllib.loads
    try:
        mapping = read(path.read_text("utf-8"))
    except ValueError as error:
        raise ConfigError([str(path)], f"cannot be read: {error}") from error
    return checked(from_mapping(Experiment, mapping, [str(path)]))


def checked(experiment: Experiment) -> Experiment:
    """The experiment itself; ConfigError for what types cannot say."""
    arms, name = experiment.arms, [experiment.name]
    if not experiment.name or len(experiment.name) > 64 or not experiment.name.isprintable():
        raise ConfigError(["name"], "needs 1 to 64 printable characters")
    if len(arms) < 2:
        raise ConfigError([*name, "arms"], f"an experiment compares two arms or more, got {len(arms)}")
    for arm, table in arms.items():
        for key in table:
            if key not in ("share", *KINDS):
                raise ConfigError([*name, "arms", arm, key], unknown("key", key, ("share", *KINDS)))
        if sum(key in table for key in KINDS) > 1:
            raise ConfigError([*name, "arms", arm], f"an arm has at most one of {', '.join(KINDS)}")
        share = table.get("share")
        if not isinstance(share, int | float) or not 0 < share <= 1:
            raise ConfigError([*name, "arms", arm, "share"], f"a number in (0, 1] is needed, got {share!r}")
    if abs(sum(table["share"] for table in arms.values()) - 1) > 1e-6:
        raise ConfigError([*name, "arms"], "the shares of the arms must add up to 1")
    for metric in (experiment.metric, *experiment.guardrails):
        try:
            parse_metric(metric)
        except ValueError as error:
            raise ConfigError([*name, "metric"], str(error)) from error
    if any(margin <= 0 for margin in experiment.guardrails.values()):
        raise ConfigError([*name, "guardrails"], "a margin, how much worse it may become, must be above 0")
    ramp = experiment.ramp
    if not ramp or list(ramp) != sorted(ramp) or not 0 < ramp[0] <= ramp[-1] <= 1:
        raise ConfigError([*name, "ramp"], f"shares in (0, 1] that grow, such as [0.1, 1.0], got {list(ramp)}")
    if not 0 < experiment.alpha < 0.5 or experiment.window_days <= 0 or experiment.minimum_effect < 0:
        raise ConfigError(name, "alpha lies in (0, 0.5), window_days is above 0, minimum_effect is not below")
    return experiment


def assign(experiment: Experiment, unit: str, share: float, time: float) -> Assignment | None:
    """The arm of a unit, or None where it is not among the `share` of units that take part.

    A hash decides, so that a unit has one arm for good, on every server, and a larger share only adds units.
    """
    place, draw = (_uniform(experiment.name, purpose, unit) for purpose in ("share", "arm"))
    if not unit or place >= share:
        return None
    ends = list(accumulate(table["share"] for table in experiment.arms.values()))
    arm = list(experiment.arms)[min(bisect(ends, draw), len(ends) - 1)]
    return Assignment(experiment.name, unit, arm, time, experiment.arms[arm]["share"])


def _uniform(*parts: str) -> float:
    """A number in [0, 1) from a hash: 53 bits of SHA-256."""
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


@dataclass(frozen=True, slots=True)
class Happening:
    """A row of `experiment_events`."""

    time: float
    kind: str
    value: Mapping[str, Any]
    author: str
    reason: str


@dataclass(frozen=True, slots=True)
class Course:
    """An experiment, and what has happened to it, oldest first."""

    experiment: Experiment
    events: tuple[Happening, ...]

    @property
    def status(self) -> Status:
        kinds = [one.kind for one in self.events if one.kind in ("started", "ramped", "stopped", "killed", "decided")]
        return "new" if not kinds else "running" if kinds[-1] in ("started", "ramped") else "stopped"

    @property
    def share(self) -> float:
        """Share of all units that take part; 0 while it does not run."""
        shares = [one.value["share"] for one in self.events if one.kind in ("started", "ramped")]
        return shares[-1] if self.status == "running" else 0.0

    @property
    def next_share(self) -> float | None:
        """The next step of the ramp; None at its end."""
        return next((share for share in self.experiment.ramp if share > self.share), None)


def add_experiment(log: Log, experiment: Experiment, time: float) -> None:
    """Keep a new experiment; ValueError where the name is taken."""
    row = {"name": experiment.name, "time": time, "record": to_mapping(experiment)}
    if not log.append("experiments", [row]).result(WAIT):
        raise ValueError(f"there is an experiment {experiment.name!r}; what is measured never changes: give a new name")


def add_event(
    log: Log, experiment: str, kind: str, time: float, reason: str, author: str = "", value: Mapping[str, Any] = {}
) -> None:
    row = {"experiment": experiment, "time": time, "kind": kind, "value": value, "author": author, "reason": reason}
    log.append("experiment_events", [row]).result(WAIT)


def change_course(
    log: Log, name: str, kind: Literal["ramped", "stopped"], time: float, reason: str, who: str = ""
) -> Course:
    """Take the next step of the ramp, or stop; the course after it. ValueError where there is nothing to change."""
    course = read_course(log.reader, name)
    share = course.next_share if kind == "ramped" else 0.0
    if course.status != "running" or share is None or not reason:
        held = f"it is {course.status}, with {course.share:.0%} of units"
        raise ValueError(f"{name} cannot be {kind}: {held if reason else 'give a reason'}")
    add_event(log, name, kind, time, reason, who, {"share": share} if share else {})
    return read_course(log.reader, name)


def read_courses(reader: Reader, name: str = "") -> list[Course]:
    """The experiments with their events, the newest first; the one called `name` alone where that is given."""
    where, values = ("name = ?", [name]) if name else ("1 = 1", [])
    found = reader.rows("experiments", "name, record", f"{where} ORDER BY time DESC, key DESC", values)
    where = "experiment = ?" if name else "1 = 1"
    columns = "experiment, time, kind, value, author, reason"
    events: dict[str, list[Happening]] = {}
    for experiment, time, kind, value, *rest in reader.rows(
        "experiment_events", columns, f"{where} ORDER BY key", values
    ):
        events.setdefault(experiment, []).append(Happening(time, kind, json.loads(value), *rest))
    return [
        Course(from_mapping(Experiment, json.loads(record), [key]), tuple(events.get(key, ()))) for key, record in found
    ]


def read_course(reader: Reader, name: str) -> Course:
    """The experiment of this name; LookupError names those that there are."""
    if found := read_courses(reader, name):
        return found[0]
    raise LookupError(unknown("experiment", name, [one.experiment.name for one in read_courses(reader)]))


def running_overlap(courses: Sequence[Course], experiment: Experiment) -> str:
    """The name of an experiment that runs on the same route; "" where none does."""
    same = (one.experiment for one in courses if one.status == "running" and one.experiment.route == experiment.route)
    return next((one.name for one in same if one.name != experiment.name), "")
