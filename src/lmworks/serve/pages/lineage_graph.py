"""The graph of a build or an answer: its nodes from manifests and lineage, and their layout from left to right.

Each node lies to the right of all that it was made from.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

from lmworks.artefact import MANIFEST, Manifest, read_manifest
from lmworks.records import QUERY_ENCODER, Interaction
from lmworks.serve.pages.page_templates import count, counted
from lmworks.workspace import Current

Kind = Literal["source", "model", "stage", "answer"]

WIDTH, HEIGHT = 190, 76  # of a node, in pixels
GAP_X, GAP_Y = 56, 24
LANE = 8  # height of the room for edges that pass a column
MARGIN = 8


@dataclass(frozen=True, slots=True)
class Item:
    """Something with a hash. `parents` names what it was made from; `current` is false for what was replaced since."""

    name: str
    kind: Kind
    title: str
    detail: str  # a line: what it runs, or where it is
    digest: str
    note: str = ""  # a line: when and how long, or how many
    link: str = ""
    parents: tuple[str, ...] = ()
    current: bool = True


@dataclass(frozen=True, slots=True)
class Node:
    """An item at its place: the left upper corner, in pixels."""

    item: Item
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Edge:
    """From a parent to what was made from it; `path` is SVG path data."""

    start: str
    end: str
    path: str


@dataclass(frozen=True, slots=True)
class Graph:
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    width: int
    height: int


def layout(items: Sequence[Item]) -> Graph:
    """Columns by the longest way from a root; models and sources move right, next to what uses them first.

    An edge that passes a column has a lane of its own there, which edges from one parent share, so that no line runs
    behind a node. Parents that are not among the items are ignored. ValueError for a cycle.
    """
    known = {item.name: item for item in items}
    parents = {item.name: [p for p in item.parents if p in known] for item in items}
    columns = _columns(parents)
    boxes = _places(list(known), columns, parents)
    nodes = {
        name: Node(item, boxes[name, columns[name]].x, boxes[name, columns[name]].y) for name, item in known.items()
    }
    edges = tuple(
        Edge(parent, name, _path([boxes[parent, column] for column in range(columns[parent], columns[name])]
                                 + [boxes[name, columns[name]]]))
        for name in known
        for parent in parents[name]
    )  # fmt: skip
    count = max(columns.values(), default=-1) + 1
    return Graph(
        tuple(nodes.values()),
        edges,
        width=2 * MARGIN + count * WIDTH + max(0, count - 1) * GAP_X,
        height=max((box.y + box.height for box in boxes.values()), default=0) + MARGIN,
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """Room for a node, or (lower) for a lane: the left upper corner and the height."""

    x: int
    y: int
    height: int

    @property
    def middle(self) -> int:
        return self.y + self.height // 2


def _columns(parents: Mapping[str, Sequence[str]]) -> dict[str, int]:
    depth: dict[str, int] = {}
    left = set(parents)
    while left:
        ready = {name for name in left if all(parent in depth for parent in parents[name])}
        if not ready:
            raise ValueError(f"made from each other: {', '.join(sorted(left))}")
        for name in ready:
            depth[name] = max((depth[parent] + 1 for parent in parents[name]), default=0)
        left -= ready
    for name in parents:
        children = [depth[child] for child, above in parents.items() if name in above]
        if not parents[name] and children:
            depth[name] = min(children) - 1
    return depth


def _places(
    names: Sequence[str], columns: Mapping[str, int], parents: Mapping[str, Sequence[str]]
) -> dict[tuple[str, int], _Place]:
    """(name, column) -> the place of a node, or of the lane of its edges in a later column.

    From left to right, each column in the order of the middles of what leads there, so that few edges cross.
    """
    last = {name: max((columns[child] for child in names if name in parents[child]), default=0) for name in names}
    boxes: dict[tuple[str, int], _Place] = {}
    for column in range(max(columns.values(), default=-1) + 1):
        members = [name for name in names if columns[name] == column or columns[name] < column < last[name]]

        def middle(name: str, column: int = column) -> float:
            before = [boxes[name, column - 1]] if columns[name] < column else []
            before += [boxes[parent, column - 1] for parent in parents[name]] if columns[name] == column else []
            return sum(box.middle for box in before) / len(before) if before else float("inf")

        y = MARGIN
        for name in sorted(members, key=middle):
            height = HEIGHT if columns[name] == column else LANE
            boxes[name, column] = _Place(MARGIN + column * (WIDTH + GAP_X), y, height)
            y += height + GAP_Y
    return boxes


def _path(boxes: Sequence[_Place]) -> str:
    """From the right edge of the first place through the lanes to the left edge of the last."""
    path = f"M{boxes[0].x + WIDTH} {boxes[0].middle}"
    for before, after in pairwise(boxes):
        bend = GAP_X // 2
        path += f" C{before.x + WIDTH + bend} {before.middle} {after.x - bend} {after.middle} {after.x} {after.middle}"
        if after is not boxes[-1]:
            path += f" H{after.x + WIDTH}"
    return path


def ancestors(items: Sequence[Item], name: str) -> tuple[Item, ...]:
    """The items that `name` was made from, directly or not, and itself, in their order."""
    known = {item.name: item for item in items}
    reached: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current in known and current not in reached:
            reached.add(current)
            waiting += known[current].parents
    return tuple(item for item in items if item.name in reached)


ANSWER = "answer"
_ANSWERING = ("retrieve.index", "ground.calibrate")  # the stages that an answer is made from directly
_NUMBERS = {  # use -> the things, counted by a metric of this name, that a stage made
    "corpus.read": "documents",
    "corpus.tag": "documents",
    "corpus.dedup": "pairs",
    "corpus.filter": "documents",
    "corpus.balance": "documents",
    "retrieve.index": "chunks",
    "ground.questions": "questions",
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
        return tuple(
            (name.replace("_", " "), count(value) if isinstance(value, int) else f"{value:.3f}")
            for name, value in self.manifest.metrics.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        )


def read_build(workspace: Path, current: Current, *, everything: bool) -> tuple[list[StageFacts], list[StageFacts]]:
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

    A stage that was built again since is shown as it was then, where the workspace still holds it.
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
        elif name == QUERY_ENCODER:  # for the log alone
            continue
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
    summary = "abstained" if interaction.abstained else f"{len(interaction.citations)} cited"
    if not interaction.verdicts:
        summary = counted(interaction.output_tokens, "token")
    link = f"/log/{interaction.id}"
    return Item(ANSWER, "answer", "Answer", interaction.route, interaction.id, summary, link, parents)


def _stage(stage: StageFacts) -> Item:
    manifest = stage.manifest
    metric = _NUMBERS.get(manifest.stage, "")
    amount = manifest.metrics.get(metric)
    note = counted(amount, metric.removesuffix("s")) if isinstance(amount, int) else ""
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
