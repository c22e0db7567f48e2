"""What was made from what, laid out as a graph from left to right: each node to the right of all it was made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

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
    places = _places(list(known), columns, parents)
    nodes = {
        name: Node(item, places[name, columns[name]].x, places[name, columns[name]].y) for name, item in known.items()
    }
    edges = tuple(
        Edge(parent, name, _path([places[parent, column] for column in range(columns[parent], columns[name])]
                                 + [places[name, columns[name]]]))
        for name in known
        for parent in parents[name]
    )  # fmt: skip
    count = max(columns.values(), default=-1) + 1
    return Graph(
        tuple(nodes.values()),
        edges,
        width=2 * MARGIN + count * WIDTH + max(0, count - 1) * GAP_X,
        height=max((place.y + place.height for place in places.values()), default=0) + MARGIN,
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
        children = [depth[child] for child, own in parents.items() if name in own]
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
    places: dict[tuple[str, int], _Place] = {}
    for column in range(max(columns.values(), default=-1) + 1):
        members = [name for name in names if columns[name] == column or columns[name] < column < last[name]]

        def middle(name: str, column: int = column) -> float:
            before = [places[name, column - 1]] if columns[name] < column else []
            before += [places[parent, column - 1] for parent in parents[name]] if columns[name] == column else []
            return sum(place.middle for place in before) / len(before) if before else float("inf")

        y = MARGIN
        for name in sorted(members, key=middle):
            height = HEIGHT if columns[name] == column else LANE
            places[name, column] = _Place(MARGIN + column * (WIDTH + GAP_X), y, height)
            y += height + GAP_Y
    return places


def _path(places: Sequence[_Place]) -> str:
    """From the right edge of the first place through the lanes to the left edge of the last."""
    path = f"M{places[0].x + WIDTH} {places[0].middle}"
    for before, after in pairwise(places):
        bend = GAP_X // 2
        path += f" C{before.x + WIDTH + bend} {before.middle} {after.x - bend} {after.middle} {after.x} {after.middle}"
        if after is not places[-1]:
            path += f" H{after.x + WIDTH}"
    return path


def ancestors(items: Sequence[Item], name: str) -> tuple[Item, ...]:
    """The items that `name` was made from, directly or not, and itself, in their order."""
    known = {item.name: item for item in items}
    wanted: set[str] = set()
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one in known and one not in wanted:
            wanted.add(one)
            waiting += known[one].parents
    return tuple(item for item in items if item.name in wanted)
