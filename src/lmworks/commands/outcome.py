"""Parts of the commands that make a folder of a model: rows in memory, rows held out, the same call again, a result."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from lmworks.model.checkpoint import Checkpoint
    from lmworks.recipe import Recipe
    from lmworks.report import Section

WORKSPACES = Path(".lmworks")
MINUTES = 10.0  # that a command which trains may take, unless set
_HELD_OUT, _MOST_HELD_OUT = 0.1, 200  # share, and rows

Source = str | os.PathLike[str]  # a pulled model, a folder or a file; an `Outcome` is its folder
Data = Source | Iterable[Source] | Iterable[Mapping[str, Any]]  # files, folders and globs, or the rows themselves
Settings = Mapping[str, Any] | Sequence[str]  # {"train.precision": "float32"}, or ["train.precision=float32"]


@dataclass(frozen=True)
class Outcome:
    """The folder that a command made. A notebook shows its report, and another command takes it as a model."""

    folder: Path
    source: str  # what `model` loads: the folder, or the model that was evaluated
    sections: Sequence["Section"] = field(default=(), repr=False)  # of the report
    workspace: Path | None = field(default=None, repr=False)  # where the stages that led to it are kept

    @cached_property
    def model(self) -> "Checkpoint":
        """The model, loaded when it is asked for; errors as `lmworks.load`."""
        from lmworks.adapt.adapter import load

        return load(self.source)

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The numbers of its manifest."""
        from lmworks.artefact import read_manifest

        return read_manifest(self.folder).metrics

    def __fspath__(self) -> str:
        return str(self.folder)

    def __str__(self) -> str:
        alarms = [alarm for section in self.sections for alarm in section.alarms]
        return "\n! ".join([f"{self.folder}, with {self.report.name}: {json.dumps(self.metrics)}", *alarms])

    def _repr_html_(self) -> str:
        page = escape(self.report.read_text("utf-8"))  # in a frame: its styles are not the notebook's
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 40em; border: 0"></iframe>'


def plain_console() -> "Console":
    """A console that writes lines, in a notebook too; a document that says :key: shall show :key:."""
    from rich.console import Console

    return Console(emoji=False, force_jupyter=False)


def data_paths(data: Data) -> list[str]:
    """The paths that `data` names, or of rows that of a file with them, which its content names. TypeError for what is
    neither a path nor a row of JSON values."""
    from lmworks.artefact import hash_json, write_text

    items = [data] if isinstance(data, str | os.PathLike) else list(data)
    paths = [os.fspath(item) for item in items if isinstance(item, str | os.PathLike)]
    if len(paths) == len(items):
        return paths
    lines = list[str]()
    for number, row in enumerate(items, 1):
        if not isinstance(row, Mapping):
            raise TypeError(f"row {number} is {row!r:.80}: give dicts, or paths of files with rows")
        try:
            lines.append(json.dumps(dict(row), ensure_ascii=False) + "\n")
        except TypeError as error:
            raise TypeError(f"row {number}: {error}: give texts, numbers, lists and dicts") from error
    file = WORKSPACES / "rows" / f"rows-{hash_json(lines)[:8]}.jsonl"
    write_text(file, "".join(lines))
    return [str(file)]


def held_out_share(hashes: Iterable[str]) -> float:
    """The share to hold out of rows by these SHA-256: a tenth, at most 200 of them; at least two, for an interval; 0 of
    a single row."""
    from lmworks.artefact import hash_fraction

    ordered = sorted(set(hashes))
    if len(ordered) < 2:
        return 0.0
    last = hash_fraction(ordered[1 if len(ordered) > 3 else 0])
    return max(min(_HELD_OUT, _MOST_HELD_OUT / len(ordered)), round(last + 1e-6, 6))


def make_folder(recipe: "Recipe", out: Path) -> Outcome:
    """Build the recipe, whose last stage makes what the new folder `out` is to hold, or go on with it, and write its
    report. FileExistsError where the folder is of another model, of other rows or settings."""
    from lmworks.artefact import REPORT, check_new, hash_json, publish, write_text
    from lmworks.build import build, check_settings, sections
    from lmworks.outside_inputs import digest_outside
    from lmworks.report import to_html
    from lmworks.stages import STAGES

    for spec in recipe.stages:
        check_settings(spec, recipe.base)  # rows before the base, which is hashed next
    workspace = WORKSPACES / recipe.name / out.name
    outside = [digest_outside(STAGES[spec.use], spec.config, recipe.base) for spec in recipe.stages]
    asked = workspace / "asked"
    digest = hash_json([[spec.name, spec.config, named] for spec, named in zip(recipe.stages, outside, strict=True)])
    if not asked.is_file() or asked.read_text("utf-8") != digest:
        check_new(out)  # what is there is of another model, of other rows or settings
        workspace.mkdir(parents=True, exist_ok=True)
        asked.write_text(digest, "utf-8")
    *others, tuned = build(recipe, workspace, plain_console())
    shown = sections([tuned, *others])
    if not out.exists():
        private = out.with_name(f".{out.name}.new")
        shutil.rmtree(private, ignore_errors=True)  # of a kill
        shutil.copytree(tuned.folder, private)
        write_text(private / REPORT, to_html(f"{out.name}: report", f"{recipe.description}.", shown))
        publish(private, out)
    return Outcome(out, str(out), shown, workspace)
