"""Run the stages of a recipe: each one once, resumable, locked, with its lineage written down.

A workspace is a folder:

    stages/NAME/KEY/   one artefact for each key a stage ever had, with a report of its own
    work/NAME/KEY/     what an interrupted stage had finished so far
    current.json       which artefacts make up the system that was built last, and the recipe it was built from
    report.html
    versions/          see `versions.py`
"""

import contextlib
import platform
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console

import lmworks
from lmworks.artefact import (
    CURRENT,
    FILE_HASHES,
    MANIFEST,
    REPORT,
    SECTIONS,
    STAGE_FOLDERS,
    Manifest,
    StageContext,
    check_new,
    hash_json,
    library_versions,
    lock,
    read_json,
    read_manifest,
    verify,
    write_json,
    write_manifest,
    write_text,
    writing,
)
from lmworks.config import ConfigError, assigned, from_mapping, parse_assignment, to_mapping, unknown
from lmworks.corpus.documents import made_folder, stage_folder
from lmworks.model.download import located
from lmworks.outside_inputs import check_outside, digest_outside
from lmworks.progress import stage_progress
from lmworks.recipe import Recipe, StageSpec, check_stage, later_stages, making_stage
from lmworks.report import Fold, Section, Table, shown, to_html
from lmworks.stage import resolve
from lmworks.stages import STAGES, meant_stages, stage_name
from lmworks.train.parallel.launcher import run_stage
from lmworks.train.planning.units import readable_bytes
from lmworks.versions import is_gated, keep, version_id
from lmworks.workspace import Current, model_digest, read_current

LOCK = "stage.lock"


@dataclass(frozen=True, slots=True)
class StageOutcome:
    name: str
    folder: Path
    manifest: Manifest
    cached: bool


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """Surroundings that stages are made in: those that are done by name, the paths of models by role, the folder where
    relative paths start, and the workspace of a recipe."""

    done: dict[str, StageOutcome]
    models: dict[str, Path]
    base: Path
    console: Console
    workspace: Path | None = None


def build(
    recipe: Recipe,
    workspace: Path,
    console: Console | None = None,
    *,
    answers_first: bool = False,
    candidate: bool = False,
) -> list[StageOutcome]:
    """Make every artefact of the recipe that does not exist yet; returns all of them in order.

    With `answers_first`, stages that are not made yet and that no answer needs are left for the next call. The system
    is live then, unless it is a `candidate`, or another version was promoted: it is kept as a version that waits.
    Raises `artefact.LockedError` when another process builds this workspace, and whatever a stage raises; what was
    finished before stays, and the next call continues from there.
    """
    console = console or Console(stderr=True, emoji=False)
    with lock(workspace / "build.lock"):
        made = {role: name for role, source in recipe.models.items() if (name := making_stage(source)) is not None}
        models = {r: located(source, recipe.base) for r, source in recipe.models.items() if r not in made}
        configs = {spec.name: spec.config for spec in recipe.stages}
        for spec in recipe.stages:
            check_settings(spec, recipe.base)
            if check_inputs := STAGES[spec.use].check_inputs:
                resolve(check_inputs)(spec.config, recipe.base, [configs[name] for name in spec.inputs])
        later = later_stages(recipe) if answers_first else set()
        around = _Surroundings({}, models, recipe.base, console, workspace)
        outcomes = around.done
        total, width = str(len(recipe.stages)), max((len(spec.name) for spec in recipe.stages), default=0)
        for number, spec in enumerate(recipe.stages, start=1):
            label = f"stage {number:>{len(total)}} of {total} · {spec.name:<{width}}"
            outcome = _stage(spec, label, workspace, around, later=spec.name in later)
            if outcome is None:
                console.print(f"{label}  later: answers do without it", style="dim", highlight=False)
                continue
            outcomes[spec.name] = outcome
            models |= {role: outcomes[name].folder for role, name in made.items() if name == spec.name}
        current = Current(
            recipe=recipe.name,
            question=recipe.question,
            models={role: str(path.resolve()) for role, path in models.items()},
            stages={name: o.folder.relative_to(workspace).as_posix() for name, o in outcomes.items()},
            uses={spec.name: spec.use for spec in recipe.stages},
            names={role: made.get(role, source) for role, source in recipe.models.items()},
            description=recipe.description,
            log=recipe.log,
            writing=recipe.writing,
            serve=recipe.serve,
            created=time.time(),
        )
        current = replace(current, version=version_id(workspace, current))
        keep(workspace, current)
        result = list(outcomes.values())
        waits = candidate or is_gated(workspace)
        if waits and (workspace / CURRENT).exists() and read_current(workspace).version != current.version:
            line = f"version {current.version} waits: `lmworks promote {current.version}` makes it live"
            console.print(line, highlight=False)
            return result
        write_json(workspace / CURRENT, current)
        missing = f" Not made yet: {', '.join(current.unfinished)}." if current.unfinished else ""
        lead = f"{recipe.description}{missing}"
        write_text(workspace / REPORT, to_html(f"{recipe.name}: report", lead, sections(result)))
    return result


def check_settings(spec: StageSpec, base: Path) -> None:
    """Check a stage and what it reads from outside: a ConfigError says of which stage of the recipe the setting is."""
    try:
        check_outside(STAGES[spec.use], spec.config, base)
    except ConfigError as error:
        raise ConfigError((spec.name, *error.path), error.problem) from error


def run_alone(
    use: str,
    out: Path,
    inputs: Sequence[Path],
    models: Sequence[str],
    overrides: Sequence[str] | Mapping[str, Any],
    console: Console | None = None,
    *,
    again: bool = False,
) -> StageOutcome:
    """Run one stage without a recipe, into the new folder `out`; `again`: unless that has been made of the same.

    `inputs` are artefacts that earlier stages made, `models` are `ROLE=NAME`, `overrides` are its settings, as
    `config.assignments` takes them.
    Raises ConfigError for whatever is wrong with these, `artefact.DamagedError` for an input that was changed since it
    was made, FileExistsError when `out` exists, and `artefact.LockedError` while another process makes it.
    """
    if (use := stage_name(use)) not in STAGES:
        raise ConfigError((), unknown("stage", use, list(STAGES), meant_stages(use)))
    if inputs and use == "corpus.read":
        raise ConfigError(
            (), f"corpus.read takes no --from: set its sources instead, --set 'sources=[\"{inputs[0]}\"]'"
        )
    roles = _roles(use, models)
    spec = check_stage(use, use, assigned(overrides), inputs=[folder.name for folder in inputs], roles=roles)
    if not again:
        check_new(out)
    done, paths = read_inputs(inputs), {role: located(source, Path.cwd()) for role, source in roles.items()}
    console = console or Console(stderr=True, emoji=False)
    around = _Surroundings(done, paths, Path.cwd(), console)
    work = out.with_name(f".{out.name}.work")
    own_work = work / _cache_key(spec, around)  # what other settings or inputs left is not gone on from
    if again and (out / MANIFEST).exists() and (manifest := read_manifest(out)).key == own_work.name:
        return StageOutcome(use, out, manifest, cached=True)
    with lock(work / LOCK):
        try:
            check_new(out)  # another process may have made it until now
            outcome = _make(spec, own_work.name, use, out, own_work, around)
            _end_work(own_work, use, console)
        finally:
            (work / LOCK).unlink(missing_ok=True)
            for folder in (own_work, work):
                _remove_empty(folder)  # where nothing was begun, nothing is left
    return outcome


def _end_work(work: Path, label: str, console: Console) -> None:
    """Delete what a stage that is done kept while it ran, and tell what runs with other settings or inputs left: they
    continue from there when they are asked for again."""
    _delete_work(work)
    for folder in list(work.parent.iterdir()):
        _remove_empty(folder)  # of runs that were ended before they had anything
    if others := [folder for folder in work.parent.iterdir() if folder.is_dir()]:
        size = sum(path.stat().st_size for folder in others for path in folder.rglob("*") if path.is_file())
        left = f"interrupted runs with other settings or inputs left {readable_bytes(size)} in {work.parent}"
        line = shown(f"{label.strip()}: {left}; delete it to give them up")
        console.print(line, style="dim", highlight=False, soft_wrap=True)
    _remove_empty(work.parent)


def _delete_work(work: Path) -> None:
    """Half of it, of a kill meanwhile, has a name under which nobody continues from it, and goes the next time."""
    for leftover in list(work.parent.glob(".*.dropped")):
        shutil.rmtree(leftover)
    if work.exists():
        shutil.rmtree(work.rename(work.with_name(f".{work.name}.dropped")))


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _roles(use: str, models: Sequence[str]) -> dict[str, str]:
    """The models of `ROLE=NAME` options; ConfigError for a role that the stage does not know, and for one it lacks."""
    roles = {".".join(path): str(value) for path, value in map(parse_assignment, models)}
    known = (*STAGES[use].models, *STAGES[use].optional)
    for role in roles:
        if role not in known:
            allowed = f"its roles are: {', '.join(known)}" if known else "it takes none"
            settings = [field.name for field in fields(resolve(STAGES[use].config))]  # type: ignore[arg-type]
            setting = f"; name it with --set {role}={roles[role]}" if role in settings else ""
            raise ConfigError(
                (), f'--model {role}={roles[role]}: {use} has no model in the role "{role}", {allowed}{setting}'
            )
    for role in STAGES[use].models:
        if role not in roles:
            raise ConfigError((), f'{use} needs a model in the role "{role}": name one with --model {role}=NAME')
    return roles


def read_inputs(folders: Sequence[Path]) -> dict[str, StageOutcome]:
    """Artefacts by the names of their folders, where a workspace is the documents that were made in it last;
    FileNotFoundError for a folder that is none, ConfigError for two of one name."""
    done: dict[str, StageOutcome] = {}
    for named in folders:
        folder = made_folder(named) or stage_folder(named)
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder} to read from")
        if not (folder / MANIFEST).is_file():
            fix = "name a folder that a stage made, or a workspace; files are read by corpus.read"
            if (folder / "tokenizer.json").is_file():
                raise FileNotFoundError(
                    f"{folder} is a tokenizer that no stage made: name it with --set tokenizer={folder}"
                )
            raise FileNotFoundError(f"{folder} is no artefact of a stage (it has no {MANIFEST}): {fix}")
        done[named.name] = StageOutcome(named.name, folder, read_manifest(folder), cached=True)
    if len(done) != len(folders):
        raise ConfigError((), "two inputs have the same folder name, which names them in the manifest; rename one")
    return done


def _stage(spec: StageSpec, label: str, workspace: Path, around: _Surroundings, later: bool) -> StageOutcome | None:
    """Find the artefact of one stage of a recipe, or make it; None for one that is to be made `later`."""
    if not all(name in around.done for name in spec.inputs):
        return None
    key = _cache_key(spec, around)
    folder = workspace / STAGE_FOLDERS / spec.name / key
    work = workspace / "work" / spec.name / key
    if (folder / MANIFEST).exists():
        _delete_work(work)  # of a run that was killed when it was done
        around.console.print(f"{label}  cached", style="dim", highlight=False)
        return StageOutcome(spec.name, folder, read_manifest(folder), cached=True)
    if later:
        return None
    made = [(read_manifest(path.parent).started, path.parent) for path in folder.parent.glob(f"[!.]*/{MANIFEST}")]
    outcome = _make(spec, key, label, folder, work, around, previous=max(made)[1] if made else None)
    # Half an artefact, of a killed run under another key, is of no use; the lock says that nobody else writes here.
    for leftover in folder.parent.glob(".*.tmp"):
        shutil.rmtree(leftover)
    _end_work(work, label, around.console)
    return outcome


def _make(
    spec: StageSpec, key: str, label: str, folder: Path, work: Path, around: _Surroundings, previous: Path | None = None
) -> StageOutcome:
    """Run a stage into a new artefact; an interrupted run left what it had in `work`. `key` is not made again, which
    would read all of its sources for it."""
    stage, done, models = STAGES[spec.use], around.done, around.models
    work.mkdir(parents=True, exist_ok=True)
    started = time.time()
    with writing(folder) as output, stage_progress(around.console, label) as progress:
        for name in spec.inputs:
            if done[name].cached:  # what this very build made, it need not check
                verify(done[name].folder, done[name].manifest, progress)
        context = StageContext(
            inputs={name: done[name].folder for name in spec.inputs},
            output=output,
            work=work,
            previous=previous,
            models={role: str(models[role]) for role in stage.roles(models)},
            base=around.base,
            progress=progress,
        )
        try:
            result = run_stage(stage.run, spec.config, context)
        except (AttributeError, ConfigError, LookupError, TypeError) as error:
            for name in spec.inputs:
                _check_version(done[name], error)
            raise
        parents = {name: done[name].manifest.content_hash for name in spec.inputs} | dict(result.parents)
        write_json(output / SECTIONS, result.sections)
        lead = f"{stage.purpose[:1].upper()}{stage.purpose[1:]}."
        write_text(output / REPORT, to_html(f"{spec.use}: report", lead, result.sections))
        manifest = write_manifest(
            *(output, spec.use, stage.version, spec.config, parents, result.digests, key),
            models={role: model_digest(models[role]) for role in stage.roles(models)},
            libraries=library_versions(stage.libraries),
            metrics=to_mapping(result.metrics),
            started=started,
            seconds=time.time() - started,
        )
    around.console.print(f"{label}  done in {manifest.seconds:.1f} s", highlight=False)
    return StageOutcome(spec.name, folder, manifest, cached=False)


def _check_version(made: StageOutcome, error: Exception) -> None:
    """ValueError where a stage could not read an artefact that another version of lmworks made."""
    manifest, use = made.manifest, stage_name(made.manifest.stage)
    if use in STAGES and manifest.version != (now := STAGES[use].version):
        raise ValueError(
            f"{made.folder} is of version {manifest.version} of {use}, which is at version {now}, and cannot be read "
            f"here: run {use} again, into a new folder"
        ) from error


def _cache_key(spec: StageSpec, around: _Surroundings) -> str:
    """The cache key of an artefact, a hash of all that it would be made from; the same key is never made twice."""
    stage = STAGES[spec.use]
    file_hashes = around.workspace / FILE_HASHES / f"{spec.name}.json" if around.workspace else None
    return hash_json(
        {
            "stage": spec.use,
            "version": stage.version,
            "config": spec.config,
            "parents": {name: around.done[name].manifest.content_hash for name in spec.inputs},
            "models": {role: model_digest(around.models[role]) for role in stage.roles(around.models)},
            "libraries": library_versions(stage.libraries),
            "outside": digest_outside(stage, spec.config, around.base, file_hashes),
        }
    )[:16]


# ---------------------------------------------------------------------------------------------------------------------
# The report


def stage_sections(outcome: StageOutcome) -> list[Section]:
    """The sections of a report that a stage made of its artefact."""
    return [from_mapping(Section, section) for section in read_json(outcome.folder / SECTIONS)]


def sections(outcomes: list[StageOutcome]) -> list[Section]:
    """The sections of all stages, then the timings and versions of this build; a title that several stages have is
    followed by the name of the stage."""
    named = [(outcome.name, section) for outcome in outcomes for section in stage_sections(outcome)]
    titles = Counter(title for _, title in {(name, section.title) for name, section in named})
    result = [
        replace(section, title=f"{section.title} · {name}") if titles[section.title] > 1 else section
        for name, section in named
    ]
    timings = Table(
        ("stage", "runs", "seconds", "this time", "content"),
        tuple(
            (o.name, o.manifest.stage, round(o.manifest.seconds, 1), "cached" if o.cached else "made",
             o.manifest.content_hash[:12])
            for o in outcomes
        ),
        "How long each stage took when it was made (of one that was interrupted, its last attempt), and the hash of "
        "what it made",
    )  # fmt: skip
    versions: dict[str, Any] = {"lmworks": lmworks.__version__, "machine": platform.machine()}
    for outcome in outcomes:
        versions |= outcome.manifest.libraries
    models = {role: digest for o in outcomes for role, digest in o.manifest.models.items()}
    rows = [*versions.items(), *((f"model: {role}", digest[:12]) for role, digest in models.items())]
    folds = (Fold("Versions", tables=(Table(("what", "version"), tuple(rows)),)),)
    return [*result, Section("Timings and versions", tables=(timings,), folds=folds)]
