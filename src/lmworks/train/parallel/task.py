"""What the processes of a training stage are told, and what one of them answers: JSON in the stage's work folder."""

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from lmworks.artefact import LockedError, StageContext, StageResult, write_json
from lmworks.config import from_mapping, to_mapping
from lmworks.progress import Report, no_report
from lmworks.train.loss_guard import TrainingStoppedError

ANSWER, DEATH = "answer.json", "death.json"
# Errors that would come again however often the processes are restarted; the user sees them as of one process.
ERRORS: dict[str, type[Exception]] = {
    error.__name__: error for error in (TrainingStoppedError, LockedError, OSError, LookupError, TypeError, ValueError)
}


@dataclass(frozen=True, slots=True)
class Task:
    """A stage's function, its config and what it is given. `stage` and `kind` of config are "module:name"."""

    stage: str
    kind: str
    config: dict[str, Any]
    context: dict[str, Any]

    @classmethod
    def of(cls, stage: str, config: Any, context: StageContext) -> "Task":
        """Relative paths of the context are made absolute."""
        kind = f"{type(config).__module__}:{type(config).__qualname__}"
        given = {
            "inputs": {name: str(folder.absolute()) for name, folder in context.inputs.items()},
            "output": str(context.output.absolute()),
            "work": str(context.work.absolute()),
            "previous": None if context.previous is None else str(context.previous.absolute()),
            "models": dict(context.models),
            "base": str(context.base.absolute()),
        }
        return cls(stage, kind, to_mapping(config), given)

    @property
    def folder(self) -> Path:
        """Of the answer, and of the task's own file."""
        return Path(self.context["work"]) / "processes"

    def carry_out(self, progress: Report = no_report) -> StageResult:
        """In this process."""
        paths = {name: None if self.context[name] is None else Path(self.context[name]) for name in _PATHS}
        inputs = {name: Path(folder) for name, folder in self.context["inputs"].items()}
        context = StageContext(inputs=inputs, models=self.context["models"], progress=progress, **paths)  # type: ignore[arg-type]
        return resolve(self.stage)(from_mapping(resolve(self.kind), self.config), context)


_PATHS = ("output", "work", "previous", "base")


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of the stage; or the name of one of `ERRORS` with what it says; or what was said when it was stopped
    on demand."""

    result: StageResult | None = None
    error: str | None = None
    told: str = ""

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
        return None if name is None else cls(error=name, told=str(error))


@dataclass(frozen=True, slots=True)
class Death:
    """Of a process that ended without an answer: its rank, and the signal that ended it, None where it failed."""

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


def resolve(name: str) -> Any:
    """From `module:name` to the thing itself."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)
