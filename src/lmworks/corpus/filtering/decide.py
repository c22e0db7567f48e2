"""Decisions of each step of a policy: on a document by itself, and on several that repeat each other. No text is read.

Of duplicates only documents take part that a step looks at and earlier steps kept, so that none goes for the sake of a
duplicate that is gone itself, or that the step does not speak of; nor is one dropped by a later limit, label or span,
since such an order is refused (`policy_checks.py`). Who stays is decided by a stated order (`dedup.kept_duplicates`),
never by the order of reading.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lmworks.artefact import read_json
from lmworks.corpus.attributes import LABEL, SCORE, AttributeTable
from lmworks.corpus.dedup.kept_duplicates import RankedCorpus, best_of_groups, check_similarity, equal_texts, linked
from lmworks.corpus.dedup.match_tables import CORPUS, Pairs, Places, read_matches, read_repositories
from lmworks.corpus.dedup.repositories import copied_files
from lmworks.corpus.filtering.filter_policy import LICENCES, OnSpan, Policy, Step, in_scope
from lmworks.corpus.languages import MEASURED
from lmworks.corpus.licence_expressions import verdict as licence_verdict
from lmworks.corpus.taggers.pii.metadata import field_of
from lmworks.records import Edit

ReasonKind = Literal["score", "label", "span", "exact", "near", "repositories"]


@dataclass(frozen=True, slots=True)
class Reason:
    """One rule against one document: what was measured, and the threshold that it does not meet. Of a label the `label`
    that the document has, None for none. Of a duplicate the value is its similarity to the `kept_duplicate`, a uri, or,
    where these were not compared, its highest one to any of its group; of a file of a repository, the share of the
    copy's files that the original has, whose name is the label."""

    kind: ReasonKind
    rule: str
    value: float | None = None
    threshold: float | None = None
    label: str | None = None
    kept_duplicate: str | None = None

    def __str__(self) -> str:
        """Such as 'words 16, threshold 50'."""
        value = "" if self.value is None else f" {self.value:,.4g}"
        threshold = "" if self.threshold is None else f", threshold {self.threshold:,.6g}"
        label = f" ({self.label or 'unknown'})" if self.label or self.kind == "label" else ""
        kept = "" if self.kept_duplicate is None else f", duplicate of {self.kept_duplicate}"
        return f"{self.rule}{value}{threshold}{label}{kept}"


@dataclass(frozen=True, slots=True)
class Decisions:
    """The decisions of one step on the n documents of a shard.

    in_scope  (n,) bool: which of them it looks at.
    reasons   Place of a document → why to drop it.
    cuts      Place → edits of its repaired text, which may overlap.
    fields    Place → edits of its title and of its metadata, each with the field (`pii.metadata.field_of`).
    """

    in_scope: NDArray[np.bool_]
    reasons: dict[int, list[Reason]] = field(default_factory=lambda: defaultdict(list))
    cuts: dict[int, list[Edit]] = field(default_factory=lambda: defaultdict(list))
    fields: dict[int, list[tuple[str, Edit]]] = field(default_factory=lambda: defaultdict(list))


def columns(policy: Policy) -> set[str]:
    """The attributes that decisions go by."""
    names = {LABEL + MEASURED} | ({"spans"} if any(step.marks for step in policy.steps) else set())
    names |= {SCORE + name for step in policy.steps for name in step.all_limits}
    return names | {LABEL + name for step in policy.steps for name in step.labels}


def decide(policy: Policy, table: AttributeTable, with_cuts: bool = True) -> list[Decisions]:
    """The decisions of each step on each document by itself, whatever other steps and documents are; without cuts only
    the reasons, which are far fewer in a whole corpus."""
    return [_decide_step(step, table, with_cuts) for step in policy.steps]


def _decide_step(step: Step, table: AttributeTable, with_cuts: bool) -> Decisions:
    found = Decisions(in_scope(step, table))
    for name, limit in step.all_limits.items():
        if (values := table.scores.get(name)) is not None:
            low, high = limit.bounds  # comparisons with NaN are false, so one that does not apply drops nothing
            for threshold, beyond in ((low, values < low), (high, values > high)):
                for place in np.flatnonzero(beyond & found.in_scope).tolist():
                    found.reasons[place].append(Reason("score", name, float(values[place]), threshold))
    for name, choice in step.labels.items():
        labels = table.labels.get(name) or [None] * len(table)
        goes = dict.fromkeys(labels, choice.unknown != "keep")
        for label in [label for label in goes if label is not None]:
            if name in LICENCES:  # expressions of SPDX; one that the lists do not decide goes where any are allowed
                verdict = licence_verdict(label, choice.allow, choice.deny)
                goes[label] = verdict == "denied" or (verdict == "unknown" and bool(choice.allow))
            else:
                goes[label] = label in choice.deny or (bool(choice.allow) and label not in choice.allow)
        for place in np.flatnonzero(found.in_scope).tolist():
            if goes[labels[place]]:
                found.reasons[place].append(Reason("label", name, label=labels[place]))
    wanted: dict[str, tuple[str, str, OnSpan]] = {}
    for each in table.spans.rules() if step.marks else ():
        name, rule = field_of(each) or ("", each)
        if (on := step.on_span(rule)) is not None and (with_cuts or on.action == "drop"):
            wanted[each] = (name, rule, on)
    for place, span in table.spans.of_rules(wanted):
        name, rule, on = wanted[span.rule]
        if found.in_scope[place] and span.score >= on.at_least:
            edit = Edit(span.start, span.end, "" if on.action == "cut" else type_in_place(rule), rule)
            if name:  # a title drops no document: its type is written
                found.fields[place].append((name, edit))
            elif on.action == "drop":
                found.reasons[place].append(Reason("span", rule, span.score, on.at_least))
            else:
                found.cuts[place].append(edit)
    return found


def type_in_place(rule: str) -> str:
    """The word that is written where a span is redacted: `<EMAIL>` of the rule `pii.email`.

    It holds no digit and no sign that could be found in turn, and no find of personal data crosses its brackets: so a
    text that was redacted is clean, whatever stood next to the finds.
    """
    return f"<{rule.rpartition('.')[2].upper()}>"


def clipped(by_step: Sequence[Collection[Edit]], length: int) -> list[list[Edit]]:
    """The cuts of each step in a text of this length, without what earlier ones took, so that none overlap.

    A range that is redacted and partly gone already loses its rest without a replacement: half a number is no less
    personal. Ranges of no characters, and cuts inside of gone ranges, vanish.
    """
    taken = bytearray(length if any(by_step) else 0)
    found = []
    for cuts in by_step:
        mine: list[Edit] = []
        for cut in sorted(set(cuts), key=lambda cut: (cut.start, -cut.end, cut.rule)):
            start = taken.find(0, cut.start, cut.end)
            while start >= 0:
                end = taken.find(1, start, cut.end)
                end = cut.end if end < 0 else end
                is_whole = (start, end) == (cut.start, cut.end)
                mine.append(Edit(start, end, cut.replacement if is_whole else "", cut.rule))
                taken[start:end] = b"\1" * (end - start)
                start = taken.find(0, end, cut.end)
        found.append(sorted(mine))
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Duplicates


def decide_duplicates(
    policy: Policy, documents: RankedCorpus, decisions: Sequence[Sequence[Decisions]], duplicates: Path | None
) -> None:
    """Add what the steps on duplicates say to the decisions, of each shard those of each step. ValueError where the
    policy has such a step and there is nothing to go by, or what there is was looked for otherwise."""
    left = np.ones(len(documents), bool)
    for step, *of_step in zip(policy.steps, *decisions, strict=True):
        there = left & np.concatenate([shard.in_scope for shard in of_step])
        if step.duplicates and step.duplicates != "exact" and duplicates is None:
            raise ValueError(f"the step {step.name} needs a stage corpus.dedup among the inputs, or goes by nothing")
        if step.duplicates == "paragraphs" or step.duplicates == "passages":
            assert duplicates is not None
            places = read_matches(Places, duplicates, step.duplicates)
            usable = np.flatnonzero(there[places.document])
            ranked = np.lexsort((places.start[usable], documents.rank[places.document[usable]], places.group[usable]))
            rows = usable[ranked]  # of each group the first place of the best document stays
            groups = places.group[rows]
            for row in rows[1:][groups[1:] == groups[:-1]].tolist():
                shard, place = documents.place(int(places.document[row]))
                cut = Edit(int(places.start[row]), int(places.end[row]), "", step.duplicates)
                of_step[shard].cuts[place].append(cut)
        elif step.duplicates:
            for document, reason in _dropped_duplicates(step, documents, there, duplicates):
                shard, place = documents.place(document)
                of_step[shard].reasons[place].append(reason)
        for start, shard in zip(documents.starts.tolist(), of_step, strict=False):
            left[[start + place for place in shard.reasons]] = False


def _dropped_duplicates(
    step: Step, documents: RankedCorpus, there: NDArray[np.bool_], duplicates: Path | None
) -> Iterator[tuple[int, Reason]]:
    """The documents that go, and why: of each group all but the best, or the files of a copied repository."""
    first, second = equal_texts(documents.keys)
    pairs, kind, threshold = None, "exact", 1.0
    if duplicates is not None and step.duplicates != "exact":
        pairs, searched = read_matches(Pairs, duplicates, "near"), read_json(duplicates / CORPUS)["threshold"]
        kind, threshold = "near", step.similarity if step.duplicates == "near" else searched
        check_similarity(threshold, searched)
        alike = pairs.similarity >= threshold
        pairs = Pairs(pairs.first[alike], pairs.second[alike], pairs.similarity[alike])
        first, second = np.concatenate((pairs.first, first)), np.concatenate((pairs.second, second))
    groups = linked(first, second, len(documents))
    if duplicates is not None and step.duplicates == "repositories":
        names = read_repositories(duplicates)
        for document, original, copy in copied_files(names, groups, documents, there, step.similarity):
            limits, uri = (copy.share, step.similarity), documents.uris[original]
            yield document, Reason("repositories", "repositories", *limits, copy.original, uri)
        return
    kept = best_of_groups(groups, documents.rank, there)
    similarity = np.zeros(len(documents))  # to the one that stays; where they were not compared, the highest to any
    if pairs is not None:
        ends, others = np.concatenate((pairs.first, pairs.second)), np.concatenate((pairs.second, pairs.first))
        values = np.tile(pairs.similarity, 2)
        np.maximum.at(similarity, ends, values)
        compared = kept[ends] == others
        similarity[ends[compared]] = values[compared]
        # Of those with the same words the best alone was compared with others.
        same = (values == 1) & ~np.isin(ends, ends[compared]) & np.isin(others, ends[compared])
        similarity[ends[same]] = similarity[others[same]]
    for document in np.flatnonzero(kept != np.arange(len(kept))).tolist():
        uri, value = documents.uris[int(kept[document])], float(similarity[document]) or 1.0
        yield document, Reason(kind, kind, value, threshold, kept_duplicate=uri)
