"""The log of a run: a line of JSON for each logged step, validation or event."""

import json
from pathlib import Path
from typing import Any

from lmworks.artefact import write_text

LOG = "log.jsonl"


class RunLog:
    """Appends to `folder`/log.jsonl. A resumed run drops the lines after its step: these steps will be taken again."""

    def __init__(self, folder: Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / LOG
        lines = [line for line in read_log(self._path) if line["step"] <= step] if self._path.exists() else []
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in lines))
        self._file = self._path.open("a", encoding="utf-8")

    def has(self, kind: str, step: int) -> bool:
        """Whether there is a line of this kind about the step."""
        return any(line["kind"] == kind and line["step"] == step for line in read_log(self._path))

    def write(self, kind: str, step: int, **values: Any) -> None:
        """`kind` is what the line is about: "step", "validation", "sample", "event"."""
        self._file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class NoLog:
    """The log of a process that writes none, as the first process does."""

    def has(self, kind: str, step: int) -> bool:
        return True

    def write(self, kind: str, step: int, **values: Any) -> None: ...

    def close(self) -> None: ...


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, without a last one that a kill cut short."""
    lines = []
    for line in path.read_text("utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines
