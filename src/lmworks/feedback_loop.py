"""The loop: log → sample → review → rows → train → gate → experiment → promote → watch, as far as it can go today.

    loops/3/sample/ review/ rows/ train/ gate/ experiment/ promote/ watch/

Each step leaves an artefact that names the one before as its parent; a step that waits for people or for time leaves
none, and the same call continues there. What a step does outside of its artefact (a queue filled, a version built, an
experiment begun, a promotion) comes out the same when a killed one is run again. A loop ends where the gate, the
experiment or the watch says no, or when all is done; the next call begins another one.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lmworks.artefact import (
    MANIFEST,
    Manifest,
    lock,
    read_json,
    read_manifest,
    read_rows,
    write_json,
    write_manifest,
    write_rows,
    writing,
)
from lmworks.build import build
from lmworks.config import ConfigError, from_mapping, positive
from lmworks.monitor.experiment import add_event, checked, read_state, read_states, start
from lmworks.monitor.experiment_results import read_out
from lmworks.monitor.log import Log
from lmworks.monitor.review import DESTINATIONS, Destination, ReviewItem, items, read_config, review_row
from lmworks.monitor.review_sampling import fill
from lmworks.recipe import Recipe
from lmworks.records import Experiment
from lmworks.versions import MARGINS, Gate, compared, promote, read_version, rollback, versions
from lmworks.workspace import read_current

LOOPS = "loops"
REVIEWS = "reviews.jsonl"
_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """The file `loop.toml` of a workspace.

    rows        "stage.key" of the recipe -> the rows that are added to its list: questions, preferences or labels.
    reviews     new verdicts that a loop begins to learn from.
    days        of the log that are drawn from.
    margins     of the gate, by metric: how much worse a version may be.
    experiment  fields of an `Experiment` of production against the version, but for its name and arms; none: no test on
                users, and the gate decides.
    better      whether the experiment must show the version to be better; else that there is no difference that matters
                is enough.
    watch_days  after a promotion, in which an alarm takes it back.
    """

    rows: Mapping[str, Destination] = field(default_factory=lambda: {"questions.gold": "questions"})
    reviews: int = 30
    days: float = 7.0
    margins: Mapping[str, float] = field(default_factory=lambda: MARGINS)
    experiment: Mapping[str, Any] = field(default_factory=dict)
    better: bool = True
    watch_days: float = 7.0

    def __post_init__(self) -> None:
        positive(reviews=self.reviews, days=self.days, watch_days=self.watch_days)
        if self.experiment:
            _experiment(self, "loop", "candidate")


@dataclass(frozen=True, slots=True)
class Step:
    """A step that is done, or waits, in words; after one that `ends` the loop goes no further."""

    words: str
    metrics: Mapping[str, Any] = field(default_factory=dict)
    done: bool = True
    ends: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Context:
    """Surroundings of a step: `folder` of the loop, `output` of its artefact, `metrics` of the steps before by name;
    `load` makes the recipe with settings."""

    workspace: Path
    folder: Path
    config: LoopConfig
    log: Log
    load: Callable[[Sequence[str]], Recipe]
    who: str
    now: float
    output: Path = Path()
    metrics: dict[str, Mapping[str, Any]] = field(default_factory=dict)


class _Waiting(Exception):  # noqa: N818 - no error: what a step waits for
    pass


def run(
    workspace: Path, config: LoopConfig, load: Callable[[Sequence[str]], Recipe], log: Log, *, who: str = "",
    now: float | None = None, say: Callable[[Step], None] = lambda step: None,
) -> list[Step]:  # fmt: skip
    """Take the loop that is under way, or a new one, as far as it goes; its steps, of which the last one may wait."""
    moment, steps, parent = time.time() if now is None else now, list[Step](), None
    with lock(workspace / LOOPS / "loop.lock"):
        number = max((int(path.name) for path in (workspace / LOOPS).glob("[0-9]*")), default=1)
        made = [path for name in STEPS if (path := workspace / LOOPS / str(number) / name / MANIFEST).exists()]
        number += any(read_manifest(path.parent).metrics["ends"] for path in made)  # the last one is at its end
        context = _Context(workspace, workspace / LOOPS / str(number), config, log, load, who, moment)
        for name, function in STEPS.items():
            folder = context.folder / name
            try:
                done = (folder / MANIFEST).exists()
                parent = read_manifest(folder) if done else _make(name, function, context, parent)
                context.metrics[name] = parent.metrics
                steps.append(Step(parent.metrics["words"], ends=parent.metrics["ends"], name=name))
            except _Waiting as waiting:
                steps.append(Step(str(waiting), done=False, name=name))
            say(steps[-1])
            if steps[-1].ends or not steps[-1].done:
                break
    return steps


def _make(name: str, function: Callable[[_Context], Step], context: _Context, parent: Manifest | None) -> Manifest:
    """Run a step into its artefact."""
    with writing(context.folder / name) as output:
        step = function(replace(context, output=output))
        parents = {parent.stage: parent.content_hash} if parent else {}
        metrics = {**step.metrics, "words": step.words, "ends": step.ends}
        return write_manifest(output, f"loop.{name}", 1, context.config, parents, metrics=metrics, started=context.now)


def _sample(context: _Context) -> Step:
    fill(context.log, read_config(context.workspace), context.now, context.config.days)
    where = "annotator1 = '' GROUP BY rule ORDER BY rule"
    waiting = dict(context.log.reader.rows("reviews", "rule, count(*)", where))
    write_json(context.output / "waiting.json", waiting)
    by_rule = ", ".join(f"{count} by {rule}" for rule, count in waiting.items())
    return Step(f"drawn and not yet reviewed: {by_rule or 'none'}")


def _review(context: _Context) -> Step:
    """All verdicts until now; those of earlier loops as well, since a version is made of all of them."""
    judged = items(context.log.reader, "annotator1 != '' ORDER BY id")
    earlier = [context.folder.parent / str(n) / "review" / REVIEWS for n in range(1, int(context.folder.name))]
    before = sum(len(read_rows(ReviewItem, path)) for path in [path for path in earlier if path.exists()][-1:])
    missing = context.config.reviews - (len(judged) - before)
    if missing > 0:
        ((waiting,),) = context.log.reader.rows("reviews", "count(*)", "annotator1 = ''")
        raise _Waiting(f"{missing} more verdicts are needed, {waiting} wait on the page Review")
    write_rows(context.output / REVIEWS, judged)
    return Step(f"{len(judged)} reviewed answers, {len(judged) - before} of them new", {"reviews": len(judged)})


def _rows(context: _Context) -> Step:
    review, left_out = read_config(context.workspace), Counter[str]()
    rows: dict[Destination, dict[str, Any]] = {to: {} for to in DESTINATIONS if to in context.config.rows.values()}
    question = next(iter(review.rubric))
    for item in read_rows(ReviewItem, context.folder / "review" / REVIEWS):
        (who, said), *others = item.judgements.items()
        try:
            interaction = context.log.reader.get(item.interaction)
        except KeyError:
            left_out["deleted from the log since"] += 1
            continue
        if any(other.choices[question] != said.choices[question] for _, other in others):
            left_out["on which two people disagree"] += 1
            continue
        for to, made in rows.items():
            try:
                row = review_row(interaction, said, to, who, review)
            except ValueError as error:
                left_out[f"as {to}: {error}"] += 1
                continue
            key = row["question"] if to == "questions" else item.id
            left_out["questions that were asked before"] += key in made
            made.setdefault(key, row)
    for to, made in rows.items():
        write_rows(context.output / f"{to}.jsonl", made.values())
    left_out = +left_out
    write_json(context.output / "left_out.json", left_out)
    text = ", ".join(f"{len(made)} {to}" for to, made in rows.items() if made)
    kept = f"; left out: {left_out.total()} (left_out.json says why)" if left_out else ""
    return Step((text or "no rows") + kept, ends=not text)


def _train(context: _Context) -> Step:
    plain, settings = context.load([]), []
    for setting, to in context.config.rows.items():
        name, _, key = setting.partition(".")
        spec = next((stage for stage in plain.stages if stage.name == name), None)
        known = getattr(spec.config, key, None) if spec else None
        if spec is None or not isinstance(known, tuple):
            raise ConfigError(["rows", setting], f"is no list of files of a stage of the recipe {plain.name}")
        files = [*map(str, known), str((context.folder / "rows" / f"{to}.jsonl").resolve())]
        settings.append(f"{setting}={json.dumps(files, ensure_ascii=False)}")
    build(context.load(settings), context.workspace, candidate=True)
    made = versions(context.workspace)[-1].version
    live = read_current(context.workspace).version
    words = f"version {made}" if made != live else f"the rows change nothing: version {made} is live already"
    write_json(context.output / "version.json", {"version": made, "settings": settings})
    return Step(words, {"version": made, "live": live}, ends=made == live)


def _gate(context: _Context) -> Step:
    version = read_version(context.workspace, context.metrics["train"]["version"])
    gate = compared(context.workspace, version, context.config.margins, baseline=context.metrics["train"]["live"])
    write_json(context.output / "gate.json", gate)
    return Step(f"{'passed' if gate.passed else 'refused'}, new less old:\n{gate.text}", ends=not gate.passed)


def _experiment(config: LoopConfig, name: str, version: str) -> Experiment:
    arms = {"control": {"share": 0.5, "version": "production"}, "candidate": {"share": 0.5, "version": version}}
    return checked(from_mapping(Experiment, {"name": name, "arms": arms, **config.experiment}, ["experiment"]))


def _test(context: _Context) -> Step:
    if not context.config.experiment:
        return Step("none is set: the gate decides")
    experiment = _experiment(context.config, f"loop {context.folder.name}", context.metrics["train"]["version"])
    state = next((state for state in read_states(context.log.reader) if state.experiment.name == experiment.name), None)
    if state is None or state.status == "new":
        start(context.log, experiment, context.now, f"by {LOOPS}/{context.folder.name}", context.who)
        raise _Waiting(f"the experiment {experiment.name} has begun: no unit yet")
    if state.events[-1].kind != "decided":
        readout = read_out(context.log.reader, state.experiment, context.now)
        decision = readout.decision
        if state.status == "running" and decision.kind != "stop":
            raise _Waiting(f"the experiment {experiment.name}: {decision.words}")
        better = bool(readout.primary) and all(gain.gain is not None and gain.gain[0] > 0 for gain in readout.primary)
        wins = decision.kind == "stop" and not decision.harmful and (better or not context.config.better)
        add_event(context.log, experiment.name, "decided", context.now, decision.words, context.who, {"wins": wins})
        state = read_state(context.log.reader, experiment.name)
    decided = state.events[-1]
    return Step(decided.reason, {"experiment": experiment.name}, ends=not decided.value["wins"])


def _promote(context: _Context) -> Step:
    version = read_version(context.workspace, context.metrics["train"]["version"])
    if read_current(context.workspace).version != version.version:
        gate = from_mapping(Gate, read_json(context.folder / "gate" / "gate.json"))
        experiment = context.metrics["experiment"]
        reason = f"{context.metrics['rows']['words']}; {experiment['words']}"
        tested = experiment.get("experiment", "")
        made_by = f"{LOOPS}/{context.folder.name}"
        promote(context.workspace, version, gate, reason, who=context.who, experiment=tested, loop=made_by)
    return Step(f"{version.version} is live", {"version": version.version, "time": context.now})


def _watch(context: _Context) -> Step:
    promoted = context.metrics["promote"]
    alarms = context.log.reader.rows(
        "alerts", "rule, time", "time >= ? AND level = 'alarm' AND state != 'muted'", [promoted["time"]]
    )
    if alarms:
        reason = f"alarm {alarms[0][0]} after the promotion by {LOOPS}/{context.folder.name}"
        if read_current(context.workspace).version == promoted["version"]:
            rollback(context.workspace, reason, who=context.who)
        return Step(f"rolled back: {reason}", ends=True)
    left = promoted["time"] + context.config.watch_days * _DAY - context.now
    if left > 0:
        raise _Waiting(f"no alarm yet; {left / _DAY:.1f} of {context.config.watch_days:g} days are left")
    if not context.log.reader.rows("drift", "count(*)", "time >= ?", [promoted["time"]])[0][0]:
        raise _Waiting("nothing was watched since the promotion: `lmworks alerts run` measures it")
    return Step(f"no alarm in {context.config.watch_days:g} days", ends=True)


STEPS: Mapping[str, Callable[[_Context], Step]] = {
    "sample": _sample, "review": _review, "rows": _rows, "train": _train, "gate": _gate, "experiment": _test,
    "promote": _promote, "watch": _watch,
}  # fmt: skip
