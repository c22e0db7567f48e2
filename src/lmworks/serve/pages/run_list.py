"""The runs of evaluations on disk: what the pages list, compare and pair."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lmworks.artefact import MANIFEST, Manifest, read_manifest
from lmworks.evaluate.results import SCORES, Result, TaskScore, read_results, read_scores
from lmworks.serve.service import Service


@dataclass(frozen=True, slots=True)
class Run:
    """A run by the name of its folder; `scores` are task -> metric -> score."""

    name: str
    folder: Path
    manifest: Manifest
    scores: dict[str, dict[str, TaskScore]]

    @property
    def suite(self) -> str:
        named = self.manifest.config.get("suite", "")
        return named if isinstance(named, str) else ", ".join(map(str, named))

    @property
    def model(self) -> str:
        return str(self.manifest.config.get("model", ""))

    @property
    def shown_scores(self) -> list[tuple[str, str, str]]:
        """Task, metric and score as text."""
        return [(task, name, str(one.score)) for task, named in self.scores.items() for name, one in named.items()]


def runs_folder(service: Service) -> Path:
    return Path(service.config.runs) if service.config.runs else service.workspace.resolve().parent / "runs"


def find_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """The runs in a folder, newest first, and the names of the folders that hold none that can be read."""
    runs, unreadable = [], []
    for path in sorted(folder.glob(f"[!.]*/{MANIFEST}")):
        try:
            scores = read_scores(path.parent) if (path.parent / SCORES).is_file() else {}
            runs.append(Run(path.parent.name, path.parent, read_manifest(path.parent), scores))
        except (OSError, ValueError, TypeError, AttributeError):
            unreadable.append(path.parent.name)
    return sorted(runs, key=lambda run: -run.manifest.started), unreadable


def find_run(folder: Path, *, name: str = "", digest: str = "") -> Run:
    """The run of this name, or whose content hash begins so; LookupError when there is none."""
    for run in find_runs(folder)[0]:
        if run.name == name or (digest and run.manifest.content_hash.startswith(digest)):
            return run
    raise LookupError(f"{folder} holds no run {name or digest}: `lmworks eval` makes one")


@lru_cache(maxsize=8)
def _results(folder: Path, content_hash: str) -> tuple[Result, ...]:  # an artefact never changes
    return tuple(read_results(folder)[0])


def results_of(run: Run) -> tuple[Result, ...]:
    """The items of a run; errors as of `read_results`."""
    return _results(run.folder, run.manifest.content_hash)
