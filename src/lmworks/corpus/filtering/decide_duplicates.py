"""Which of several equal or alike documents stays, and which of several equal places: decisions over the whole corpus.

Only documents that a step looks at and earlier steps kept take part, so that none goes for the sake of a twin that is
gone itself, or that the step does not speak of; nor is one dropped by a later limit, label or mark, since such an order
is refused (`policy_checks.py`). Who stays is decided by a stated order (`duplicates.kept_duplicates`), never
by the order of reading.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lmworks.corpus.dedup.kept_duplicates import (
    STANDING,
    Kept,
    Standings,
    equal_texts,
    kept_duplicates,
    similarity_by_texts,
    standing_of,
)
from lmworks.corpus.dedup.match_tables import Pairs, Places, read_crowds, read_matches, read_repositories
from lmworks.corpus.dedup.repositories import copied_files
from lmworks.corpus.filtering.decide import Cut, Judged, Reason
from lmworks.corpus.filtering.filter_policy import Policy, Step

__all__ = ["STANDING", "resolve", "standing_of"]


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
            _resolve_step(step, standing, there, of_step, duplicates, texts)
        for shard, found in enumerate(of_step):
            for place in found.reasons:
                alive[int(standing.starts[shard]) + place] = False


def _resolve_step(
    step: Step,
    standing: Standings,
    there: np.ndarray,
    of_step: Sequence[Judged],
    duplicates: Path | None,
    texts: Sequence[str],
) -> None:
    if step.duplicates == "exact":
        return _drop(step, equal_texts(standing.keys, standing.rank, there), standing, of_step)
    if duplicates is None:
        raise ValueError(f"the step {step.name} needs a stage data.duplicates among the inputs, or goes by nothing")
    if step.duplicates == "paragraphs" or step.duplicates == "passages":
        return _cut_places(step, read_matches(Places, duplicates, step.duplicates), standing, there, of_step)
    pairs, crowds = read_matches(Pairs, duplicates, "near"), read_crowds(duplicates)
    if crowds.members and not texts:
        raise ValueError(f"the step {step.name} has to compare documents: their texts are needed")
    similarity = similarity_by_texts(texts, crowds)
    if step.duplicates == "repositories":  # the value is the share of the copy's files, the label the original
        names = read_repositories(duplicates)
        for file in copied_files(names, pairs, crowds, standing, there, step.similarity, similarity):
            copy, twin = file.repository, standing.uris[file.kept]
            reason = Reason(step.duplicates, copy.share, step.similarity, copy.original, twin)
            _add(file.document, reason, standing, of_step)
        return None
    kept = kept_duplicates(pairs, crowds, step.similarity, standing.rank, there, similarity)
    if kept.uncompared:
        warnings.warn(
            f"{step.name}: {kept.uncompared:,} comparisons were not made, within crowds of which very many "
            "documents stay; raise the words of a shingle in data.duplicates to find fewer candidates",
            stacklevel=2,
        )
    return _drop(step, kept, standing, of_step)


def _drop(step: Step, kept: Kept, standing: Standings, of_step: Sequence[Judged]) -> None:
    for document in kept.removed.tolist():
        twin = standing.uris[int(kept.document[document])]
        value = float(kept.similarity[document])
        _add(document, Reason(step.duplicates, value, step.similarity, twin=twin), standing, of_step)


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
