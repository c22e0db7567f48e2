"""Recipes: one TOML file that describes a system as named stages, checked whole before any work starts.

name = "assistant"
[models]
embedder = "all-minilm-l6-v2"  # pulled, or the path of a checkpoint
assistant = "stages.dialogue"  # what a stage of this recipe trains
[stages.documents]
use = "corpus.read"              # a stage of lmworks.stages
sources = ["python-docs"]      # the rest of the table is that stage's config
[stages.index]
use = "retrieve.index"
from = ["documents"]           # the graph gives the order; where it leaves a choice, the file does
[log]                          # `monitor.config.LogConfig`: how long interactions are kept, what is redacted
retention_days = 30
[writing]                      # `ground.config.WritingConfig`: whether a language model writes the answers
write = "auto"
[serve]                        # `serve.config.ServeConfig`: where and how the system is served
port = 8000
"""

import graphlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from lmworks.config import ConfigError, assign, from_mapping, line_of, parse_assignment, unknown
from lmworks.ground.config import WritingConfig
from lmworks.monitor.config import LogConfig
from lmworks.stage import resolve
from lmworks.stages import ANSWERER, STAGES, meant_stages, stage_name

_MADE = "stages."  # begins the source of a model that a stage of the recipe makes
_TABLES = ("models", "question", "name", "log", "writing", "serve")  # what `--set` reaches besides the stages


class RecipeError(ValueError):
    """A recipe that cannot be built: one message with the file, the line and what is allowed."""


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One stage of a recipe: what it uses, what it reads from, and its checked config."""

    name: str
    use: str
    inputs: tuple[str, ...]
    config: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tables:
    """The tables of a recipe besides its stages, and what names it."""

    name: str
    description: str = ""
    question: str = ""
    models: Mapping[str, str] = field(default_factory=dict)
    log: LogConfig = field(default_factory=LogConfig)
    writing: WritingConfig = field(default_factory=WritingConfig)
    serve: Mapping[str, Any] = field(default_factory=dict)  # checked where it is used: `lmworks.serve.config`


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(_Tables):
    """A checked recipe; `stages` are in an order in which they can run. `base` is where relative paths start."""

    stages: tuple[StageSpec, ...]
    base: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class _File(_Tables):
    """The top level of a recipe file, before its stages are checked one by one."""

    stages: Mapping[str, Mapping[str, Any]]


def packaged() -> dict[str, Path]:
    """Recipes that come with lmworks, by name."""
    folder = Path(str(resources.files("lmworks") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find(name: str) -> Path:
    """The file of a recipe given by path or by the name of a packaged one; RecipeError names what there is."""
    path = Path(name)
    if path.suffix == ".toml":
        if path.is_file():
            return path
        raise RecipeError(f"there is no recipe file {path}")
    if path.is_dir():
        raise RecipeError(f"{path} is a folder, and a recipe is wanted: give documents by --docs {path}")
    if name not in packaged():
        raise RecipeError(f"{unknown('recipe', name, list(packaged()))}; or give the path of a .toml file")
    return packaged()[name]


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe; `overrides` are `NAME.key=value`, NAME a stage or one of its other tables.

    A file or folder that an override names is looked for in the working folder first, then next to the recipe.
    Raises RecipeError with the file, the line, and what is allowed.
    """
    text = path.read_text("utf-8")
    try:
        mapping = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: {error}") from error
    origin: dict[tuple[str, ...], str] = {}
    try:
        for override in overrides:
            target = _override_path(override, mapping)
            assign(mapping, target, _from_working_folder(parse_assignment(override)[1]))
            origin[target] = override
        if isinstance(models := mapping.get("models"), dict):
            mapping["models"] = {role: name for role, name in models.items() if name is not None}
        return _check(mapping, path.parent.resolve())
    except ConfigError as error:
        named = next((text for target, text in origin.items() if _is_about(error, target)), None)
        line = line_of(text, error.path)
        where = f"--set {named}" if named else f"{path}, line {line}" if line else str(path)
        raise RecipeError(f"{where}: {error}") from error


def _from_working_folder(value: Any) -> Any:
    """The value with an absolute path for each relative one, with a slash or a suffix, that exists in the working
    folder: the paths of a recipe are relative to its own folder."""
    if isinstance(value, list):
        return [_from_working_folder(item) for item in value]
    if isinstance(value, str) and ("/" in value or Path(value).suffix) and Path(value).exists():
        return str(Path(value).resolve())
    return value


def _is_about(error: ConfigError, target: tuple[str, ...]) -> bool:
    """Whether it is of this setting, or of the table that has it and names it."""
    size = len(error.path)
    return error.path[: len(target)] == target or (target[:size] == error.path and target[-1] in error.problem)


def _override_path(override: str, mapping: Mapping[str, Any]) -> tuple[str, ...]:
    head, *rest = parse_assignment(override)[0]
    stages = mapping.get("stages", {})
    if not isinstance(stages, dict):
        raise ConfigError(("stages",), f"expected a table, got {stages!r}")
    if head in _TABLES:
        return (head, *rest)
    if head == "stages" and rest:  # as messages and recipes name it
        head, *rest = rest
    if head not in stages:
        meant = []  # the stages that have a setting of this name
        for name, table in stages.items():
            stage = STAGES.get(stage_name(str(table.get("use")))) if isinstance(table, dict) else None
            if stage and head in [setting.name for setting in fields(resolve(stage.config))]:
                meant.append(".".join((name, head, *rest)))
        raise ConfigError((), f"--set {override}: {unknown('stage', head, [*stages, *_TABLES], meant)}")
    return ("stages", head, *rest)


def _check(mapping: Mapping[str, Any], base: Path) -> Recipe:
    file = from_mapping(_File, mapping)
    if not re.fullmatch(r"[^/\\]+", file.name) or file.name.startswith("."):
        raise ConfigError(("name",), f"{file.name!r} cannot name a folder: no slashes, no dot in front, not empty")
    specs = {name: _check_stage(name, table, file) for name, table in file.stages.items()}
    for role, source in file.models.items():
        if (maker := making_stage(source)) is not None and maker not in specs:
            raise ConfigError(("models", role), unknown("stage", maker, list(specs)))
    try:
        order = _order(_graph(specs, file.models))
    except graphlib.CycleError as error:
        cycle = " -> ".join(error.args[1])
        raise ConfigError(("stages", error.args[1][0], "from"), f"the stages read from each other: {cycle}") from error
    tables = {table.name: getattr(file, table.name) for table in fields(_Tables)}
    return Recipe(**tables, stages=tuple(specs[name] for name in order), base=base)


def making_stage(source: str) -> str | None:
    """The name of the stage that makes a model of this source; None for a model that is there already."""
    return source.removeprefix(_MADE) if source.startswith(_MADE) else None


def later_stages(recipe: Recipe) -> set[str]:
    """The stages that neither an answer nor a model of the recipe needs, such as an evaluation; none where the recipe
    makes no answers."""
    graph = _graph({spec.name: spec for spec in recipe.stages}, recipe.models)
    waiting = [spec.name for spec in recipe.stages if spec.use == ANSWERER]
    later = set(graph) if waiting else set()
    waiting += [maker for source in recipe.models.values() if (maker := making_stage(source)) is not None]
    while waiting:
        if (name := waiting.pop()) in later:
            later.remove(name)
            waiting += graph[name]
    return later


def _graph(specs: Mapping[str, StageSpec], models: Mapping[str, str]) -> dict[str, list[str]]:
    """Each stage, and those that come before it: its inputs, and the makers of the models that it uses."""
    makers = {role: maker for role, source in models.items() if (maker := making_stage(source)) is not None}
    return {
        name: [*spec.inputs, *(makers[role] for role in STAGES[spec.use].roles(makers))] for name, spec in specs.items()
    }


def _order(graph: Mapping[str, Sequence[str]]) -> list[str]:
    """Each stage after what it needs; of those that could run next, the first in the file."""
    sorter, positions = graphlib.TopologicalSorter(graph), {name: position for position, name in enumerate(graph)}
    sorter.prepare()
    order: list[str] = []
    ready: list[str] = []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()], key=positions.__getitem__)
        order.append(ready.pop(0))
        sorter.done(order[-1])
    return order


def _check_stage(name: str, table: Mapping[str, Any], file: _File) -> StageSpec:
    path = ("stages", name)
    use, inputs = table.get("use"), table.get("from", [])
    if use is None:
        raise ConfigError((*path, "use"), f"missing; allowed: {', '.join(STAGES)}")
    if not isinstance(inputs, list):
        raise ConfigError((*path, "from"), f"expected a list of stage names, got {inputs!r}")
    for other in inputs:
        if not isinstance(other, str) or other not in file.stages:
            raise ConfigError((*path, "from"), unknown("stage", str(other), list(file.stages)))
    settings = {key: value for key, value in table.items() if key not in ("use", "from")}
    return check_stage(name, stage_name(str(use)), settings, inputs=inputs, roles=file.models, path=path)


def check_stage(
    name: str,
    use: str,
    settings: Mapping[str, Any],
    *,
    inputs: Sequence[str],
    roles: Mapping[str, str],
    path: Sequence[str] = (),
) -> StageSpec:
    """Check the settings of one stage; `path` is where they stand in a recipe. Raises ConfigError."""
    if use not in STAGES:
        raise ConfigError((*path, "use"), unknown("stage", use, list(STAGES), meant_stages(use)))
    config = from_mapping(resolve(STAGES[use].config), settings, path)
    for role in (*STAGES[use].models, *getattr(config, "roles", ())):
        if role not in roles:
            raise ConfigError(("models", role), f'missing; stage "{name}" ({use}) needs a model in this role')
    return StageSpec(name, use, tuple(inputs), config)
