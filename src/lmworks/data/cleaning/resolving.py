"""Which of several equal or alike documents stays, and which of several equal places: decisions over the whole corpus.

Only documents that earlier steps kept take part, so that none goes for the sake of a twin that is gone itself. Who
stays is decided by a stated order: a known licence before an unknown one, then quality where it was measured, then
length, then the uri; never by the order of reading.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmworks.data.annotation_table import AnnotationTable
from lmworks.data.cleaning.local import Cut, Judged, Reason
from lmworks.data.cleaning.policy import Policy, Step
from lmworks.data.duplicates.tables import PAIRS, PLACES, Pairs, Places, read_pairs, read_places

QUALITY, KEY = "quality", "exact"  # the measure, and the label that equal texts share


@dataclass(frozen=True, slots=True)
class Standing:
    """The documents of the corpus, n of them, in their order.

    starts  (shards + 1,) where each shard begins.
    rank    (n,) int64: 0 is the document that stays before all others.
    uris    of all.
    keys    of all: what those with equal texts share.
    """

    starts: np.ndarray
    rank: np.ndarray
    uris: Sequence[str]
    keys: Sequence[str | None]

    def place(self, document: int) -> tuple[int, int]:
        """The shard of a document, and its place there."""
        shard = int(np.searchsorted(self.starts, document, side="right")) - 1
        return shard, document - int(self.starts[shard])


def standing_of(tables: Sequence[AnnotationTable]) -> Standing:
    uris = [uri for table in tables for uri in table.uris]
    unlicensed = [licence is None for table in tables for licence in table.labels.get("licence") or [None] * len(table)]
    quality = np.concatenate([np.nan_to_num(_measure(table, QUALITY), nan=-np.inf) for table in tables])
    length = np.concatenate([table.characters for table in tables])
    order = sorted(range(len(uris)), key=lambda place: (unlicensed[place], -quality[place], -length[place], uris[place]))
    rank = np.empty(len(uris), np.int64)
    rank[order] = np.arange(len(uris))
    keys = [key for table in tables for key in table.labels.get(KEY) or [None] * len(table)]
    return Standing(np.cumsum([0, *map(len, tables)]), rank, uris, keys)


def _measure(table: AnnotationTable, name: str) -> np.ndarray:
    return table.measures.get(name, np.full(len(table), np.nan))


def resolve(
    policy: Policy, standing: Standing, judged: Sequence[Sequence[Judged]], duplicates: Path | None
) -> None:
    """Add to `judged`, of each shard what each step says, what the steps on duplicates say. ValueError where the policy
    has such a step and there is nothing to go by."""
    alive = np.ones(len(standing.uris), dtype=bool)
    for number, step in enumerate(policy.steps):
        of_step = [shard[number] for shard in judged]
        if step.duplicates:
            _resolve_step(step, standing, alive, of_step, duplicates)
        for shard, found in enumerate(of_step):
            for place in found.reasons:
                alive[int(standing.starts[shard]) + place] = False


def _resolve_step(
    step: Step, standing: Standing, alive: np.ndarray, of_step: Sequence[Judged], folder: Path | None
) -> None:
    if step.duplicates == "exact":
        twins = equal_texts(standing, alive)
        similarity = dict.fromkeys(twins, 1.0)
    elif step.duplicates in ("paragraphs", "passages"):
        _cut_places(step.duplicates, read_places(_found(folder, PLACES, step), step.duplicates), standing, alive, of_step)
        return
    else:
        twins, similarity = alike(read_pairs(_found(folder, PAIRS, step), step.duplicates), step.similarity, standing, alive)
    for document, twin in twins.items():
        shard, place = standing.place(document)
        reason = Reason(step.duplicates, similarity[document], step.similarity, twin=standing.uris[twin])
        of_step[shard].reasons.setdefault(place, []).append(reason)


def _found(folder: Path | None, name: str, step: Step) -> Path:
    if folder is None or not (folder / name).is_file():
        raise ValueError(f"the step {step.name} needs a stage data.duplicates among the inputs, or goes by nothing")
    return folder / name


def equal_texts(standing: Standing, alive: np.ndarray) -> dict[int, int]:
    """Each document whose text another one has that stays → that one."""
    first: dict[str, int] = {}
    twins: dict[int, int] = {}
    for document in np.argsort(standing.rank):
        key = standing.keys[document]
        if key is not None and alive[document] and (kept := first.setdefault(key, int(document))) != document:
            twins[int(document)] = kept
    return twins


def alike(
    pairs: Pairs, similarity: float, standing: Standing, alive: np.ndarray
) -> tuple[dict[int, int], dict[int, float]]:
    """Each document that is at least so similar to one that stays → that one, and how similar.

    In the order of their ranks a document stays unless a document that stays already is its neighbour. So whatever
    goes has a twin that stays and that it was compared with, and a chain of small changes is no cluster.
    """
    usable = (pairs.similarity >= similarity) & alive[pairs.first] & alive[pairs.second]
    neighbours: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for first, second, value in zip(pairs.first[usable], pairs.second[usable], pairs.similarity[usable], strict=True):
        neighbours[int(first)].append((int(second), float(value)))
        neighbours[int(second)].append((int(first), float(value)))
    twins: dict[int, int] = {}
    values: dict[int, float] = {}
    for document in sorted(neighbours, key=lambda each: standing.rank[each]):
        better = [
            (other, value)
            for other, value in neighbours[document]
            if standing.rank[other] < standing.rank[document] and other not in twins
        ]
        if better:
            twins[document], values[document] = min(better, key=lambda found: standing.rank[found[0]])
    return twins, values


def _cut_places(rule: str, places: Places, standing: Standing, alive: np.ndarray, of_step: Sequence[Judged]) -> None:
    """Of each group all places but one: the first of the document that stays before the others."""
    usable = np.flatnonzero(alive[places.document])
    order = usable[
        np.lexsort((places.start[usable], standing.rank[places.document[usable]], places.group[usable]))
    ]
    groups = places.group[order]
    for number, row in enumerate(order):
        if number and groups[number] == groups[number - 1]:
            shard, place = standing.place(int(places.document[row]))
            cut = Cut(int(places.start[row]), int(places.end[row]), "", rule)
            of_step[shard].cuts.setdefault(place, []).append(cut)
