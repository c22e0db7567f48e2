"""Builds as processes of their own, as a user runs them: watched, killed on the way, and read afterwards."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmworks.train.run_log import LOG, read_log

DERIVED = "derived.json"  # what the target of a pre-training gave, kept beside the run until it has ended
LOOK = 0.2  # seconds between two looks


def lmworks(arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """The command line in a process; what it prints goes to the end of `log`."""
    with log.open("ab") as stream:
        command = [sys.executable, "-m", "lmworks", *arguments]
        return subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen[bytes], log: Path, work: Path, keep: Path | None = None) -> None:
    """Wait for the end; SystemExit with the last lines of the log where that is a failure. `keep`: copy there what the
    target gives as soon as it stands anywhere below `work`, which is gone at the end."""
    while process.poll() is None:
        if keep is not None and not keep.exists() and (found := next(work.glob(f"**/{DERIVED}"), None)):
            shutil.copyfile(found, keep)
        time.sleep(LOOK)
    if process.returncode:
        raise SystemExit("\n".join(log.read_text().splitlines()[-15:]))


def kill_at(process: subprocess.Popen[bytes], log: Path, work: Path, step: int) -> int:
    """`kill -9` once the run below `work` has logged this step; the step that was logged last. SystemExit where the
    process ends before."""
    while process.poll() is None:
        taken = steps_below(work)
        if taken and taken[-1] >= step:
            process.kill()
            process.wait()
            return steps_below(work)[-1]
        time.sleep(LOOK)
    raise SystemExit("\n".join([*log.read_text().splitlines()[-15:], f"it ended before step {step}"]))


def steps_below(work: Path) -> list[int]:
    """The steps in the log of the one run below `work`, ascending."""
    path = next(work.glob(f"**/run/{LOG}"), None)
    return [] if path is None else [line["step"] for line in read_log(path) if line["kind"] == "step"]


def curve(log: Path) -> list[dict[str, Any]]:
    """A row for each validation: step, seconds since the start (or the last kill), nats and bits per byte."""
    rows, seconds = [], 0.0
    for line in read_log(log):
        if line["kind"] == "step":
            seconds = line["seconds"]
        if line["kind"] == "validation":
            rows.append({"step": line["step"], "seconds": seconds, "nats": line["loss"]})
            rows[-1]["bits_per_byte"] = line.get("bits_per_byte")
    return rows


def events(log: Path) -> list[str]:
    """What happened to a run besides its steps: that it goes on from a checkpoint, for example."""
    return [line["text"] for line in read_log(log) if line["kind"] == "event"]


def artefact(workspace: Path, stage: str) -> Path:
    """The folder of a stage of what was built last."""
    return workspace / json.loads((workspace / "current.json").read_text())["stages"][stage]
