"""Stages that cost nothing, for tests of recipes and builds: they count how often they run."""

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

from lmworks.artefact import StageContext, StageResult
from lmworks.report import Section, Table
from lmworks.stage import FILE, Stage


@dataclass(frozen=True)
class NumbersConfig:
    file: Path = field(metadata=FILE)
    factor: int = 1


@dataclass(frozen=True)
class SumConfig:
    offset: int = 0


def numbers(config: NumbersConfig, context: StageContext) -> StageResult:
    """Multiply the numbers of a file, one line at a time, each line kept in `work` as soon as it is done."""
    lines = (context.base / config.file).read_text().split()
    done = context.work / "done"
    finished = done.read_text().split() if done.exists() else []
    for position, line in enumerate(lines):
        if position >= len(finished):
            if os.environ.get("KILL_AT") == str(position):
                os.kill(os.getpid(), signal.SIGKILL)
            with (context.base / "ran").open("a") as ran:
                ran.write(f"{line}\n")
            with done.open("a") as stream:
                stream.write(f"{int(line) * config.factor}\n")
        context.progress(position + 1, len(lines), "numbers")
    (context.output / "numbers.txt").write_text(done.read_text() if lines else "")
    return StageResult(metrics={"numbers": len(lines)})


def check(config: SumConfig, base: Path) -> None:
    if config.offset == 99:
        raise LookupError("nothing is 99 away")


def total(config: SumConfig, context: StageContext) -> StageResult:
    values = [int(line) for line in (context.input("numbers.txt") / "numbers.txt").read_text().split()]
    (context.output / "total.txt").write_text(str(sum(values) + config.offset))
    (context.output / "clock.txt").write_text(str(os.getpid()))
    table = Table(("what", "value"), (("total <b>", sum(values)),))
    return StageResult(
        metrics={"total": sum(values)}, sections=(Section("Total", tables=(table,)),), digests={"clock.txt": None}
    )


STAGES = {
    "toy.numbers": Stage("toy_stages:numbers", "toy_stages:NumbersConfig", 1, "numbers"),
    "toy.total": Stage("toy_stages:total", "toy_stages:SumConfig", 1, "total"),
}

RECIPE = """name = "toy"
question = "How much?"

[stages.sum]
use = "toy.total"
from = ["values"]

[stages.values]
use = "toy.numbers"
file = "values.txt"
"""
