"""Versions of a system: which one is live, which ones wait, and by what right each one went live.

A version is a `current.json`. A workspace keeps each one that a build made in `versions/ID.json`; `promotions.jsonl` is
only appended to and says which version went live when, by whom, why, and after which gate and experiment. Once a
version was promoted, a build leaves what is live as it is.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmworks.artefact import CURRENT, MANIFEST, append_row, hash_json, lock, read_manifest, write_json
from lmworks.config import unknown
from lmworks.evaluate.comparison import kept_margins
from lmworks.evaluate.release.promotion import (
    CANDIDATE,
    PRODUCTION,
    Gate,
    GateError,
    Promotion,
    acting,
    carriers,
    check_promotion,
    read_promotions,
)
from lmworks.stages import ANSWERER
from lmworks.workspace import Current, artefact_of, content_hashes, model_digest, read_current, read_system

VERSIONS = "versions"
PROMOTIONS = "promotions.jsonl"
EVALUATION = "ground.evaluate"
MARGINS: Mapping[str, float] = {"span-f1": 0.05, "answered": 0.05}  # by which a version may be worse than what is live


def version_id(workspace: Path, current: Current) -> str:
    """Hash of all that a system answers by: what the stages made that its answers need, its models and how it writes.
    The same wherever the workspace lies, and before and after an evaluation that is still to be made."""
    hashes = content_hashes(workspace, current)
    waiting = [name for name in hashes if current.uses[name] == ANSWERER] or list(hashes)
    needed: dict[str, str] = {}
    while waiting:
        name = waiting.pop()
        if name in hashes and name not in needed:
            needed[name] = hashes[name]
            waiting += read_manifest(workspace / current.stages[name]).parents
    models = {role: model_digest(Path(path)) for role, path in current.models.items()}
    return hash_json([needed, models, current.writing])[:16]


def keep(workspace: Path, current: Current) -> None:
    """Keep a version that was built, as the newest."""
    write_json(workspace / VERSIONS / f"{current.version}.json", current)


def versions(workspace: Path) -> list[Current]:
    """All versions that are kept, the newest last."""
    files = (workspace / VERSIONS).glob("[!.]*.json")
    return sorted(map(read_system, files), key=lambda version: (version.created, version.version))


def waiting(workspace: Path) -> list[Current]:
    """The versions that were never live, the newest last."""
    live = {read_current(workspace).version} | _once_live(workspace)
    return [version for version in versions(workspace) if version.version not in live]


def _once_live(workspace: Path) -> set[str]:
    return {version for promotion in promotions(workspace) for version in (promotion.version, promotion.before)}


def read_version(workspace: Path, name: str = PRODUCTION) -> Current:
    """The version of this name: "production", "candidate" (the newest that was never live) or the beginning of its
    hash. FileNotFoundError names what there is."""
    if name == PRODUCTION:
        return read_current(workspace)
    if name == CANDIDATE:
        if never_live := waiting(workspace):
            return never_live[-1]
        raise FileNotFoundError(f"{workspace} has no version that waits; `lmworks build --candidate` makes one")
    known = versions(workspace)
    matching = [version for version in known if name and version.version.startswith(name)]
    if len(matching) != 1:
        names = [PRODUCTION, CANDIDATE, *(version.version for version in known)]
        raise FileNotFoundError(f"{len(matching)} versions begin so: {unknown('version', name, names)}")
    return matching[0]


def promotions(workspace: Path) -> list[Promotion]:
    """The history of what went live, oldest first."""
    return read_promotions(workspace / PROMOTIONS)


def is_gated(workspace: Path) -> bool:
    """Whether a build leaves what is live as it is, since versions go live by `promote`."""
    return (workspace / PROMOTIONS).exists()


def compared(
    workspace: Path,
    version: Current,
    margins: Mapping[str, float] = MARGINS,
    runs: Sequence[Path] = (),
    baseline: str = PRODUCTION,
) -> Gate:
    """The gate of a version against what is live: the artefacts of both that ran `ground.evaluate`, or `runs`, the new
    and the old folder of results. ValueError where they do not hold the same items, FileNotFoundError without them."""
    if not runs:
        both = (version, read_version(workspace, baseline))
        runs = [artefact_of(workspace, run, EVALUATION) for run in both]
    new, old = runs
    passed, text = kept_margins(new, old, margins, tasks=lambda task: ", " not in task)  # not those of the baselines
    inside = [str(run.relative_to(workspace)) if run.is_relative_to(workspace) else str(run) for run in runs]
    return Gate(passed, text, dict(margins), tuple(inside))


def promote(
    workspace: Path, version: Current, gate: Gate, reason: str, *, who: str = "", experiment: str = "", loop: str = ""
) -> Promotion:
    """Make a version live. GateError without a passed gate or a reason, or where it is not as it was built."""
    check_promotion(version.version, gate, reason)
    about = {"gate": gate, "experiment": experiment, "loop": loop}
    return _go_live(workspace, version, reason.strip(), who, **about)


def rollback(workspace: Path, reason: str = "rolled back", *, to: str = "", who: str = "") -> Promotion:
    """Make the version live that was before the last promotion, or `to`, which was live once. GateError where none was.

    It needs no gate: it passed one, or was what the first was measured against.
    """
    if to:
        version = read_version(workspace, to)
        if version.version not in _once_live(workspace):
            raise GateError(f"{version.version} was never live: `lmworks promote {version.version}` asks for its gate")
    else:
        stack = carriers(promotions(workspace))
        if len(stack) < 2:
            raise GateError(f"{workspace} has no earlier version to go back to")
        version = read_version(workspace, stack[-2])
    return _go_live(workspace, version, reason.strip() or "rolled back", who, kind="rolled back")


def _go_live(workspace: Path, version: Current, reason: str, who: str, **about: Any) -> Promotion:
    """The line first: after a kill between the two, the same call continues and adds no second one."""
    made = Promotion(version.version, read_current(workspace).version, time.time(), acting(who), reason, **about)
    with lock(workspace / "build.lock"):
        for name, folder in version.stages.items():
            if not (workspace / folder / MANIFEST).is_file():
                raise GateError(f"{version.version}: {folder}, which the stage {name} made, is not there any more")
        if version_id(workspace, version) != version.version:
            raise GateError(f"{version.version} is not what was built: a model or an artefact of it was replaced since")
        if made.before == version.version:
            raise GateError(f"{version.version} is live already")
        last = promotions(workspace)[-1:]
        if not last or replace(last[0], time=made.time, gate=made.gate) != made:
            append_row(workspace / PROMOTIONS, made)
        write_json(workspace / CURRENT, version)
    return made
