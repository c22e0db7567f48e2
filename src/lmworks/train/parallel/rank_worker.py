"""The processes of a training stage: what they are given, what they leave behind, and how torchrun starts them.

    python -m lmworks.train.parallel.rank_worker start TASK PROCESSES    torchrun, which records which process died
    python -m lmworks.train.parallel.rank_worker run TASK                by torchrun: one of the processes

See `launcher.py`. Nothing here is for a user to call. A task, its answer and a death are JSON in the stage's work
folder.
"""

import json
import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmworks.artefact import LockedError, StageContext, StageResult, write_json
from lmworks.config import from_mapping, to_mapping
from lmworks.progress import Report, no_report
from lmworks.stage import resolve
from lmworks.train.loss_guard import TrainingStoppedError

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

ANSWER, DEATH = "answer.json", "death.json"
# Errors that would come again however often the processes are restarted; the user sees them as of one process.
ERRORS: dict[str, type[Exception]] = {
    error.__name__: error for error in (TrainingStoppedError, LockedError, OSError, LookupError, TypeError, ValueError)
}
_PATHS = ("output", "work", "previous", "base")  # of a context
_TERMINATION_SECONDS = 30  # that torchrun gives processes to end


@dataclass(frozen=True, slots=True)
class Task:
    """A stage's function, its config and its context. `stage` and `kind` of config are "module:name"."""

    stage: str
    kind: str
    config: dict[str, Any]
    context: dict[str, Any]

    @classmethod
    def of(cls, stage: str, config: Any, context: StageContext) -> "Task":
        """Relative paths of the context are made absolute."""
        kind = f"{type(config).__module__}:{type(config).__qualname__}"
        paths = {name: getattr(context, name) for name in _PATHS}
        given = {name: None if path is None else str(path.absolute()) for name, path in paths.items()}
        inputs = {name: str(folder.absolute()) for name, folder in context.inputs.items()}
        return cls(stage, kind, to_mapping(config), {"inputs": inputs, "models": dict(context.models), **given})

    @property
    def folder(self) -> Path:
        """The folder of the task's own file and of the answer."""
        return Path(self.context["work"]) / "processes"

    def run(self, progress: Report = no_report) -> StageResult:
        """The result of the stage, run in this process."""
        paths = {name: None if self.context[name] is None else Path(self.context[name]) for name in _PATHS}
        inputs = {name: Path(folder) for name, folder in self.context["inputs"].items()}
        context = StageContext(inputs=inputs, models=self.context["models"], progress=progress, **paths)  # type: ignore[arg-type]
        return resolve(self.stage)(from_mapping(resolve(self.kind), self.config), context)


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of the stage; or the name of one of `ERRORS` with its message; or the message of a stop on demand."""

    result: StageResult | None = None
    error: str | None = None
    message: str = ""

    def write(self, folder: Path) -> None:
        write_json(folder / ANSWER, self)

    @classmethod
    def read(cls, folder: Path) -> "Answer | None":
        path = folder / ANSWER
        return from_mapping(cls, json.loads(path.read_text("utf-8"))) if path.exists() else None

    @classmethod
    def of_error(cls, error: BaseException) -> "Answer | None":
        """None for an error that another try may not meet."""
        name = next((name for name, kind in ERRORS.items() if isinstance(error, kind)), None)
        return None if name is None else cls(error=name, message=str(error))


@dataclass(frozen=True, slots=True)
class Death:
    """The rank of a process that ended without an answer, and the signal that ended it, None where it failed."""

    rank: int
    signal: int | None

    def write(self, folder: Path) -> None:
        write_json(folder / DEATH, self)

    @classmethod
    def read(cls, folder: Path) -> "Death | None":
        path = folder / DEATH
        return from_mapping(cls, json.loads(path.read_text("utf-8"))) if path.exists() else None


def trace_of(folder: Path, rank: int) -> Path:
    """Where a process of this rank leaves the trace of an error that ended it and that another try may not meet."""
    return folder / f"trace-{rank}.txt"


# ---------------------------------------------------------------------------------------------------------------------
# torchrun


def start(task: Path, processes: int) -> int:
    """Until the processes have ended; the exit status. When one dies, the others are ended, too."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    command = ["-m", "lmworks.train.parallel.rank_worker", "run", str(task)]
    try:
        main(["--standalone", f"--nproc-per-node={processes}", *command])
    except ChildFailedError as failed:
        rank, failure = min(failed.failures.items(), key=lambda item: _order(item[1]))
        Death(rank, -failure.exitcode if failure.exitcode < 0 else None).write(task.parent)
        return 1
    except SignalException as stopped:  # by the process that started it, and has its reason: a trace would mislead
        return 128 + stopped.sigval
    return 0


def _order(failure: "ProcessFailure") -> float:
    """A process that a signal ended comes before the others, which fail because they wait for it or are made to end.
    But torchrun, too, ends by a signal what does not end on demand, `_TERMINATION_SECONDS` after another failed."""
    signalled = failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM
    return failure.timestamp - (_TERMINATION_SECONDS - 1 if signalled else 0)


# ---------------------------------------------------------------------------------------------------------------------
# One of the processes


def run(path: Path) -> int:
    """Runs the task in this file; the exit status. An error that would come again is left as the answer, and the
    process fails, which ends the others: they may wait for it outside of any collective."""
    task = from_mapping(Task, json.loads(path.read_text("utf-8")))
    first = os.environ["RANK"] == "0"
    try:
        answer = Answer(task.run(_report if first else no_report))
    except (KeyboardInterrupt, SystemExit) as stopped:
        answer = Answer(message=str(stopped) if isinstance(stopped, KeyboardInterrupt) else "")
    except Exception as error:
        if (found := Answer.of_error(error)) is None:
            # Not printed: where one process was killed, the others fail as well, for no reason of theirs.
            trace_of(task.folder, int(os.environ["RANK"])).write_text(traceback.format_exc(), "utf-8")
        else:
            found.write(task.folder)  # from any rank
        return 1
    if first and Answer.read(task.folder) is None:  # or it was stopped because of the error that stands there
        answer.write(task.folder)
    return 0


def _report(done: int, total: int | None, unit: str, kept: int = 0, note: str = "") -> None:
    with suppress(BrokenPipeError):  # the launcher is gone, as the end of the input says, too
        print(json.dumps({"progress": [done, total, unit, kept, note]}), flush=True)


def end_with_input() -> None:
    """A SIGINT to this process when its standard input ends: the launcher wants it to end, or is gone."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1 << 10):
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    if sys.argv[1] == "start":
        sys.exit(start(Path(sys.argv[2]), int(sys.argv[3])))
    if os.environ["RANK"] == "0":  # the others learn of it as of any signal to one of them
        end_with_input()
    os._exit(run(Path(sys.argv[2])))  # the thread that reads the input holds on to it
