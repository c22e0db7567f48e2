"""Which of several equal or alike documents stays, and which of several equal places: decisions over the whole corpus.

Only documents that a step looks at and earlier steps kept take part, so that none goes for the sake of a twin that is
gone itself, or that the step does not speak of; nor is one dropped by a later limit, label or mark, since such an order
is refused (`checking.py`). Who stays is decided by a stated order (`duplicates.standing`), never
by the order of reading.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmworks.data.cleaning.local import Cut, Judged, Reason
from lmworks.data.cleaning.policy import Policy, Step
from lmworks.data.duplicates.alike import Twins, alike, equal_texts, similarity_by_texts
from lmworks.data.duplicates.clusters import Similarity
from lmworks.data.duplicates.copied_files import copied_files
from lmworks.data.duplicates.standing import Standings, standing_of
from lmworks.data.duplicates.tables import (
    CROWDS,
    PAIRS,
    PLACES,
    REPOSITORIES,
    Crowds,
    Places,
    read_crowds,
    read_pairs,
    read_places,
    read_repositories,
)

__all__ = ["resolve", "standing_of"]


def resolve(
    policy: Policy,
    standing: Standings,
    judged: Sequence[Sequence[Judged]],
    duplicates: Path | None,
    texts: Sequence[str] = (),
) -> None:
    """Add to `judged`, of each shard what each step says, what the steps on duplicates say.

    `texts` are the repaired ones of the corpus; those of documents of crowds are asked for. ValueError where the policy
    has such a step and there is nothing to go by, or what there is was looked for otherwise.
    """
    alive = np.ones(len(standing), dtype=bool)
    for number, step in enumerate(policy.steps):
        of_step = [shard[number] for shard in judged]
        if step.duplicates:
            there = alive & step.in_scope(standing.sources, standing.kinds, standing.languages)
            _resolve_step(step, standing, there, of_step, _Found(step, duplicates, texts))
        for shard, found in enumerate(of_step):
            for place in found.reasons:
                alive[int(standing.starts[shard]) + place] = False


@dataclass(frozen=True, slots=True)
class _Found:
    """What a step goes by."""

    step: Step
    folder: Path | None
    texts: Sequence[str]

    def path(self, name: str) -> Path:
        if self.folder is None or not (self.folder / name).is_file():
            raise ValueError(
                f"the step {self.step.name} needs a stage data.duplicates among the inputs, or goes by nothing"
            )
        return self.folder / name

    @property
    def crowds(self) -> Crowds:
        return read_crowds(self.path(CROWDS))

    def similarity(self, crowds: Crowds) -> Similarity:
        if crowds.members and not self.texts:
            raise ValueError(f"the step {self.step.name} has to compare documents: their texts are needed")
        return similarity_by_texts(self.texts, crowds)


def _resolve_step(step: Step, standing: Standings, there: np.ndarray, of_step: Sequence[Judged], found: _Found) -> None:
    if step.duplicates == "paragraphs" or step.duplicates == "passages":
        _cut_places(step, read_places(found.path(PLACES), step.duplicates), standing, there, of_step)
    elif step.duplicates == "repositories":
        _drop_copied_files(step, standing, there, of_step, found)
    elif step.duplicates == "exact":
        twins = equal_texts(standing.keys, standing.rank, there)
        _drop(step, Twins(twins, dict.fromkeys(twins, 1.0)), standing, of_step)
    else:
        pairs, crowds = read_pairs(found.path(PAIRS), "near"), found.crowds
        twins = alike(pairs, crowds, step.similarity, standing.rank, there, found.similarity(crowds))
        if twins.uncompared:
            warnings.warn(
                f"{step.name}: {twins.uncompared:,} comparisons were not made, within crowds of which very many "
                "documents stay; raise the words of a shingle in data.duplicates to find fewer candidates",
                stacklevel=2,
            )
        _drop(step, twins, standing, of_step)


def _drop(step: Step, twins: Twins, standing: Standings, of_step: Sequence[Judged]) -> None:
    for document, twin in twins.twin.items():
        reason = Reason(step.duplicates, twins.similarity[document], step.similarity, twin=standing.uris[twin])
        _add(document, reason, standing, of_step)


def _drop_copied_files(
    step: Step, standing: Standings, there: np.ndarray, of_step: Sequence[Judged], found: _Found
) -> None:
    """The value of a reason is the share of the files of the copy that the original has, which its label names."""
    crowds = found.crowds
    gone = copied_files(
        read_repositories(found.path(REPOSITORIES)), read_pairs(found.path(PAIRS), "near"), crowds, standing, there,
        step.similarity, found.similarity(crowds),
    )  # fmt: skip
    for document, copy in gone.copy.items():
        twin = standing.uris[gone.twin[document]]
        _add(document, Reason(step.duplicates, copy.share, step.similarity, copy.original, twin), standing, of_step)


def _add(document: int, reason: Reason, standing: Standings, of_step: Sequence[Judged]) -> None:
    shard, place = standing.place(document)
    of_step[shard].reasons.setdefault(place, []).append(reason)


def _cut_places(step: Step, places: Places, standing: Standings, there: np.ndarray, of_step: Sequence[Judged]) -> None:
    """Of each group all places but one: the first of the document that stays before the others."""
    usable = np.flatnonzero(there[places.document])
    order = usable[np.lexsort((places.start[usable], standing.rank[places.document[usable]], places.group[usable]))]
    groups = places.group[order]
    for row in order[1:][groups[1:] == groups[:-1]].tolist():
        shard, place = standing.place(int(places.document[row]))
        cut = Cut(int(places.start[row]), int(places.end[row]), "", step.duplicates)
        of_step[shard].cuts.setdefault(place, []).append(cut)
