"""The loop: it goes as far as it can, ends where it must, and a kill in any step loses and doubles nothing."""

import importlib
import itertools
import json
import os
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from lmworks import build as builds
from lmworks import feedback_loop as loop
from lmworks import recipe as recipes
from lmworks.artefact import StageContext, StageResult, read_manifest
from lmworks.build import build
from lmworks.evaluate.metric import Item, Metric, Response, each
from lmworks.evaluate.results import Result, task_score, write_results
from lmworks.feedback_loop import LoopConfig, Step, run
from lmworks.lineage import _version_tree
from lmworks.monitor.config import ReviewConfig
from lmworks.monitor.log import Log, Reader
from lmworks.monitor.review import Judgement, judge, take
from lmworks.monitor.sqlite import SqliteStore
from lmworks.recipe import load
from lmworks.records import Interaction, Message
from lmworks.stage import Stage
from lmworks.versions import promotions, versions
from lmworks.workspace import read_current
from slow_cases import slow

NOW = 1_000_000_000.0
DAY = 86400.0
RIGHT = Metric("right", each(lambda item, response: float(response.text)))
RECIPE = """name = "toy"
[stages.learned]
use = "toy.learned"
[stages.evaluation]
use = "ground.evaluate"
from = ["learned"]
"""
CONFIG = LoopConfig({"learned.rows": "labels"}, reviews=10, margins={"right": 0.05})


@dataclass(frozen=True)
class LearnedConfig:
    rows: tuple[Path, ...] = ()
    gain: int = 10  # of 400 items, that the rows bring


@dataclass(frozen=True)
class NoConfig:
    pass


def learned(config: LearnedConfig, context: StageContext) -> StageResult:
    lines = [line for path in config.rows for line in (context.base / path).read_text().splitlines()]
    (context.output / "right").write_text(str(300 + config.gain * bool(lines)))
    return StageResult()


def evaluated(config: NoConfig, context: StageContext) -> StageResult:
    right = int((context.input("right") / "right").read_text())
    items = [Item(str(number), f"question {number}") for number in range(400)]
    responses = [Response(str(int(number < right))) for number in range(400)]
    values = RIGHT.measure(items, responses)
    rows = [Result("task", *one, {"right": value}) for *one, value in zip(items, responses, values, strict=True)]
    write_results(context.output, rows, {"task": {"right": task_score(RIGHT, items, values, [])}})
    return StageResult()


@pytest.fixture
def log(monkeypatch, tmp_path) -> Iterator[Log]:
    """The log of a live toy system, with forty answers of the last day."""
    stages = {
        "toy.learned": Stage("test_feedback_loop:learned", "test_feedback_loop:LearnedConfig", 1, "rows"),
        "ground.evaluate": Stage("test_feedback_loop:evaluated", "test_feedback_loop:NoConfig", 1, "items"),
    }
    for module in (recipes, builds):
        monkeypatch.setattr(module, "STAGES", stages)
    (tmp_path / "toy.toml").write_text(RECIPE)
    (tmp_path / "review.toml").write_text("second = 0.0\n[rules.random]\nrate = 1.0\n")
    build(load(tmp_path / "toy.toml"), tmp_path)
    with Log(tmp_path / "log.sqlite") as made:
        for number in range(40):
            asked = (Message("user", f"Why {number}?"),)
            made.record(Interaction(f"{number:016x}", NOW - DAY / 2 + number, asked, "So.")).result()
        yield made


def go(log: Log, now: float = NOW, gain: int = 10, config: LoopConfig = CONFIG) -> list[Step]:
    folder = Path(log.location).parent
    return run(
        folder, config, lambda more: load(folder / "toy.toml", [f"learned.gain={gain}", *more]), log, who="ann", now=now
    )  # fmt: skip


def review(log: Log, count: int = 12) -> None:
    for _ in range(count):
        item = take(log, ReviewConfig(), "ann", NOW)
        assert item
        judge(log, ReviewConfig(), item.id, "ann", Judgement({"verdict": "bad", "problem": "wrong"}), NOW)


def test_a_better_version_is_promoted_watched_and_taken_back_at_an_alarm(log):
    folder = Path(log.location).parent
    first, waits = read_current(folder).version, go(log)
    assert [(one.name, one.done) for one in waits] == [("sample", True), ("review", False)]
    assert "10 more verdicts" in waits[-1].words and "40 wait" in waits[-1].words
    review(log)
    steps = go(log)
    assert [one.name for one in steps] == list(loop.STEPS) and not steps[-1].done and "7.0 of 7 days" in steps[-1].words
    (made,) = promotions(folder)
    assert read_current(folder).version == made.version and made.before == first and made.loop == "loops/1"
    assert made.gate is not None and made.gate.passed and made.who == "ann" and "12 labels" in made.reason
    tree = _version_tree(folder, made.version)
    reviewed = [json.loads(line)["interaction"] for line in (folder / "loops/1/review/reviews.jsonl").open()]
    told = [str(one.label) for one in tree.children[0].children[-1].children]
    assert len(told) == 12 and all(any(one in line for line in told) for one in reviewed)
    parents = [
        read_manifest(folder / "loops/1" / name).parents for name in loop.STEPS if name not in ("sample", "watch")
    ]
    assert all(len(one) == 1 for one in parents)
    log.append("alerts", [{"rule": "thumbs", "time": NOW + DAY, "level": "alarm", "state": "open"}]).result()
    assert "rolled back: alarm thumbs" in go(log, NOW + 2 * DAY)[-1].words
    assert read_current(folder).version == first and promotions(folder)[-1].kind == "rolled back"
    assert go(log, NOW + 2 * DAY)[-1].words.startswith("10 more verdicts")  # the next loop


def test_a_quiet_watch_ends_the_loop_and_the_next_one_needs_new_verdicts(log):
    go(log)
    review(log)
    go(log)
    assert "`lmworks alerts run`" in go(log, NOW + 7 * DAY)[-1].words  # silence of a watch that never ran is no proof
    log.append("drift", [{"time": NOW + DAY, "signal": "requests"}]).result()
    steps = go(log, NOW + 7 * DAY)
    assert (
        steps[-1] == Step("no alarm in 7 days", ends=True, name="watch")
        and len(promotions(Path(log.location).parent)) == 1
    )
    assert "10 more" in go(log, NOW + 7 * DAY)[-1].words and (Path(log.location).parent / "loops" / "2").is_dir()


def test_a_worse_version_is_refused_by_the_gate(log):
    folder = Path(log.location).parent
    before = read_current(folder)
    go(log)
    review(log)
    steps = go(log, gain=-60)
    assert steps[-1].name == "gate" and steps[-1].ends and "WORSE" in steps[-1].words
    assert read_current(folder) == before and not promotions(folder)


def in_child(work: Callable[[], None]) -> int:
    """The exit status of a process of its own; -9 where it was killed."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def whole(folder: Path, number: int) -> None:
    """A loop with its people and users; it kills its process before or after the write, to a file or the log, of a
    number from 1 on."""
    moments = itertools.count(1)

    def pass_moment() -> None:
        if next(moments) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(write: Callable) -> Callable:
        def written(*arguments: object, **more: object) -> object:
            pass_moment()
            result = write(*arguments, **more)
            pass_moment()
            return result

        return written

    more = {"metric": "click", "planned_units": 400, "minimum_effect": 0.1, "window_days": 1.0}
    with Log(folder / "log.sqlite") as log:

        def through(now: float) -> None:
            with pytest.MonkeyPatch.context() as patch:
                for owner, name in ((os, "replace"), (os, "rename"), (SqliteStore, "execute")):
                    patch.setattr(owner, name, counted(getattr(owner, name)))
                if not (folder / "loops/1/watch/manifest.json").exists():
                    go(log, now, config=replace(CONFIG, experiment=more))

        through(NOW)
        review(log, 12 - log.reader.rows("reviews", "count(*)", "annotator1 != ''")[0][0])
        through(NOW)
        arms = ("control", "candidate")
        units = [{"unit": f"u{n}", "arm": arms[n % 2], "time": NOW, "probability": 0.5} for n in range(400)]
        log.append("assignments", [{"experiment": "loop 1", **unit} for unit in units])
        clicks = [{"unit": f"u{n}", "name": "click", "time": NOW + 1, "value": 1.0} for n in range(1, 400, 2)]
        log.append("outcomes", clicks).result()
        through(NOW + 2 * DAY)
        log.append("drift", [{"time": NOW + 3 * DAY, "signal": "requests"}]).result()
        through(NOW + 9 * DAY)


def what_it_made(folder: Path) -> tuple:
    hashes = [read_manifest(folder / "loops/1" / step).content_hash for step in loop.STEPS]
    promoted = [(one.version, one.before, one.reason, one.loop) for one in promotions(folder)]
    with Reader.open(folder / "log.sqlite") as reader:
        reviews = reader.rows("reviews", "id, weight, verdict1", "1 = 1 ORDER BY id")
        events = reader.rows("experiment_events", "kind, reason, value", "1 = 1 ORDER BY key")
    live = replace(read_current(folder), created=0.0)
    return hashes, promoted, [one.version for one in versions(folder)], live, reviews, events


@pytest.mark.parametrize("step", [45, *slow(1)])
def test_kill_9_at_any_write_loses_and_doubles_nothing(log, step):
    importlib.import_module("scipy.stats")  # once, and not in each child
    folder = Path(log.location).parent
    kept = folder.with_name(f"{folder.name} kept")
    log.close()
    shutil.copytree(folder, kept)

    def begun_anew(number: int) -> int:
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        return in_child(lambda: whole(folder, number))

    assert begun_anew(0) == 0
    expected, number = what_it_made(folder), step
    assert len(expected[1]) == 1 and [kind for kind, *_ in expected[-1]] == ["started", "decided"]
    while status := begun_anew(number):
        assert status == -signal.SIGKILL
        assert in_child(lambda: whole(folder, 0)) == 0
        assert what_it_made(folder) == expected, number
        number += step
    print(f"{number - step} moments")
    assert number > 45  # there was something to kill


def test_an_experiment_that_says_nothing_yet_is_waited_for(log):
    folder = Path(log.location).parent
    config = replace(CONFIG, experiment={"metric": "thumbs", "planned_units": 400, "minimum_effect": 0.1})
    go(log, config=config)
    review(log)
    assert "has begun" in go(log, config=config)[-1].words
    step = go(log, config=config)[-1]
    assert step.name == "experiment" and not step.done and "not enough data" in step.words.lower()
    assert not promotions(folder) and len(log.reader.rows("experiment_events", "kind")) == 1
    with pytest.raises(ValueError, match="metric"):
        LoopConfig(experiment={"metric": "9 lives"})
