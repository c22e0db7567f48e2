"""The stages of a build, its models and an answer, as the items of a lineage graph."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lmworks.artefact import MANIFEST, Manifest, read_manifest
from lmworks.records import Interaction
from lmworks.serve.pages.lineage_graph import Item
from lmworks.serve.pages.rendering import count

if TYPE_CHECKING:
    from lmworks.build import Current

ANSWER = "answer"
_ANSWERING = ("retrieve.index", "ground.calibrate")  # the stages that an answer is made from directly
_NUMBERS = {  # use -> the metric that tells how much a stage made, and its unit
    "data.read": ("documents", "documents"),
    "data.annotate": ("documents", "documents"),
    "data.duplicates": ("pairs", "pairs"),
    "data.clean": ("documents", "documents"),
    "data.balance": ("documents", "documents"),
    "retrieve.index": ("chunks", "chunks"),
    "ground.questions": ("questions", "questions"),
}


@dataclass(frozen=True, slots=True)
class StageFacts:
    """An artefact with its name in the recipe; `models` is role -> (name, digest)."""

    name: str
    manifest: Manifest
    models: Mapping[str, tuple[str, str]]

    @property
    def config(self) -> str:
        return json.dumps(dict(self.manifest.config), indent=1, ensure_ascii=False)

    @property
    def metrics(self) -> tuple[tuple[str, str], ...]:
        """The plain numbers that the stage reported."""
        told = self.manifest.metrics.items()
        return tuple(
            (name.replace("_", " "), count(value) if isinstance(value, int) else f"{value:.3f}")
            for name, value in told
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        )


def read_build(workspace: Path, current: "Current", *, everything: bool) -> tuple[list[StageFacts], list[StageFacts]]:
    """The stages of the current build in order; with `everything`, also the artefacts of earlier ones."""
    names = {role: current.names.get(role, Path(path).name) for role, path in current.models.items()}
    stages = [_facts(name, workspace / folder, names) for name, folder in current.stages.items()]
    if not everything:
        return stages, []
    here = {(workspace / folder).resolve() for folder in current.stages.values()}
    older = [
        _facts(path.parent.parent.name, path.parent, names)
        for path in sorted(workspace.glob(f"stages/*/[!.]*/{MANIFEST}"))
        if path.parent.resolve() not in here
    ]
    return stages, older


def _facts(name: str, folder: Path, names: Mapping[str, str]) -> StageFacts:
    manifest = read_manifest(folder)
    return StageFacts(name, manifest, {role: (names.get(role, role), d) for role, d in manifest.models.items()})


def stage_items(stages: Sequence[StageFacts]) -> list[Item]:
    """Sources, models and stages, in the order in which they were needed."""
    items: dict[str, Item] = {}
    for stage in stages:
        for item in (*_sources(stage), *_models(stage), _stage(stage)):
            items.setdefault(item.name, item)
    return list(items.values())


def answer_items(interaction: Interaction, stages: Sequence[StageFacts], older: Sequence[StageFacts]) -> list[Item]:
    """The items behind an answer, with the hashes that its lineage names, and the answer itself.

    A stage that was built anew since is shown as it was then, where the workspace still holds it.
    """
    known = {stage.manifest.content_hash: stage for stage in (*older, *stages)}
    current = {stage.manifest.content_hash for stage in stages}
    items: dict[str, Item] = {}
    direct: list[str] = []
    for name, digest in interaction.lineage.items():
        stage = known.get(digest)
        if stage is not None:
            for item in (*_sources(stage), *_models(stage), _stage(stage)):
                items.setdefault(item.name, replace(item, current=digest in current) if item.kind == "stage" else item)
            direct += [name] if stage.manifest.stage in _ANSWERING else []
        elif name.startswith("model:"):
            role = name.removeprefix("model:")
            items.setdefault(name, Item(name, "model", role, "language model", digest))
            direct.append(name)
        else:
            items[name] = Item(name, "stage", name, "no longer in the workspace", digest, current=False)
            direct.append(name)
    items[ANSWER] = _answer(interaction, tuple(dict.fromkeys(direct)))
    return list(items.values())


def _answer(interaction: Interaction, parents: tuple[str, ...]) -> Item:
    said = "abstained" if interaction.abstained else f"{len(interaction.citations)} cited"
    if not interaction.verdicts:
        said = f"{count(interaction.output_tokens)} tokens"
    link = f"/log/{interaction.id}"
    return Item(ANSWER, "answer", "Answer", interaction.route, interaction.id, said, link, parents)


def _stage(stage: StageFacts) -> Item:
    manifest = stage.manifest
    metric, unit = _NUMBERS.get(manifest.stage, ("", ""))
    amount = manifest.metrics.get(metric)
    note = f"{count(amount)} {unit}" if isinstance(amount, int) else ""
    parents = [*manifest.parents, *(f"model:{role}" for role in manifest.models)]
    if any(True for _ in _sources(stage)):
        parents.append(f"sources:{stage.name}")
    return Item(
        name=stage.name,
        kind="stage",
        title=stage.name,
        detail=manifest.stage,
        digest=manifest.content_hash,
        note=note,
        link=f"#stage-{stage.name}",
        parents=tuple(parents),
    )


def _models(stage: StageFacts) -> Iterator[Item]:
    for role, (name, digest) in stage.models.items():
        yield Item(f"model:{role}", "model", role, name, digest)


def _sources(stage: StageFacts) -> Iterator[Item]:
    sources = stage.manifest.config.get("sources")
    if isinstance(sources, (list, tuple)) and sources:
        shown = ", ".join(Path(str(source)).name or str(source) for source in sources)
        count = "" if len(sources) == 1 else f"{len(sources)} sources"
        yield Item(f"sources:{stage.name}", "source", "sources", shown, "", count)
