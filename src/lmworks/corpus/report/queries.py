"""Questions to a ledger, and to the attributes of the documents that came.

Tables are pyarrow's. A document has a place, 0 to n - 1, in the ledger as in the attributes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmworks.artefact import read_json
from lmworks.config import from_mapping
from lmworks.corpus.attributes import LABEL, SCORE, CorpusAttributes, CorpusTexts, attribute_files, open_corpus
from lmworks.corpus.filtering.filter_policy import EMPTY, REPAIR, Policy, Step
from lmworks.corpus.filtering.ledger import LEDGER, Flow, Tally, compute, read_batches, read_flows, read_rows, tally
from lmworks.corpus.filtering.stage import POLICY
from lmworks.corpus.taggers.pii.scan import MEASURE as PERSONAL_DATA

CONTAMINATION = "contamination"
_FEWEST = 10  # documents of a kind or a language of which a share says something
_LEAST = 0.05  # of a source, what a kind or a language has lost at least for an alarm of its own


@dataclass(frozen=True, eq=False)
class Filtered:
    """`folder` holds the ledger, the policy and the documents that stay; `inputs` what they were made from."""

    folder: Path
    inputs: Mapping[str, Path]

    @cached_property
    def policy(self) -> Policy:
        return from_mapping(Policy, read_json(self.folder / POLICY))

    @cached_property
    def flows(self) -> list[Flow]:
        return read_flows(self.folder / LEDGER)

    def rows(self, columns: Sequence[str], **where: Sequence[str]) -> Any:
        return read_rows(self.folder / LEDGER, columns, **where)

    @cached_property
    def uris(self) -> Any:
        """(n,)"""
        return self.rows(["document"], step=[REPAIR])["document"].combine_chunks()

    @cached_property
    def verdicts(self) -> NDArray[np.int8]:
        """(n, steps) places in `VERDICTS`."""
        import pyarrow as pa

        pc = compute()
        batches = read_batches(self.folder / LEDGER, ["verdict"])
        found = [pc.index_in(batch["verdict"], pa.array(VERDICTS)).to_numpy().astype(np.int8) for batch in batches]
        return np.concatenate([np.empty(0, np.int8), *found]).reshape(-1, len(self.policy.names))

    @property
    def stays(self) -> NDArray[np.bool_]:
        """(n,)"""
        return self.verdicts[:, -1] == 0

    @cached_property
    def cut_rules(self) -> list[dict[str, Any]]:
        """Each step and rule: documents, places and characters that it cut, those written instead, and the place of the
        first document."""
        import pyarrow as pa

        pc, counts = compute(), ("documents", "places", "characters", "written")
        parts, row = [], 0
        for batch in read_batches(self.folder / LEDGER, ["step", "cuts"]):
            lists = batch["cuts"].combine_chunks()
            rows, cuts = pc.list_parent_indices(lists), lists.flatten()
            columns = {"step": batch["step"].take(rows), "rule": cuts.field("rule"), "row": pc.add(rows, row)}
            columns |= {"size": pc.subtract(cuts.field("end"), cuts.field("start"))}
            columns |= {"written": pc.utf8_length(cuts.field("replacement"))}
            sums = [("row", "count_distinct"), ("row", "count"), ("size", "sum"), ("written", "sum"), ("row", "min")]
            found = pa.table(columns).group_by(["step", "rule"]).aggregate(sums)
            parts.append(found.select(["step", "rule", *("_".join(each) for each in sums)]))
            row += len(batch)
        whole = pa.concat_tables(parts).rename_columns(["step", "rule", *counts, "first"]).group_by(["step", "rule"])
        found = whole.aggregate([*((name, "sum") for name in counts), ("first", "min")])
        renamed = found.rename_columns([name.removesuffix("_sum").removesuffix("_min") for name in found.column_names])
        return [each | {"first": each["first"] // len(self.policy.names)} for each in renamed.to_pylist()]

    @cached_property
    def attributes(self) -> CorpusAttributes:
        return CorpusAttributes(attribute_files(self.inputs))

    @cached_property
    def scores(self) -> Mapping[str, NDArray[np.float64]]:
        """Scores that the policy has limits for, and two that every card counts: (n,), NaN for none."""
        names = {name for step in self.policy.steps for name in step.all_limits} | {CONTAMINATION, PERSONAL_DATA}
        parts = {name: [np.empty(0)] for name in sorted(names)}
        for table in self.attributes.only(*(SCORE + name for name in names)):
            for name, columns in parts.items():
                columns.append(table.scores.get(name, np.full(len(table), np.nan)))
        scores = {name: np.concatenate(columns) for name, columns in parts.items()}
        return {name: values for name, values in scores.items() if np.isfinite(values).any()}

    def labels(self, name: str) -> list[str | None]:
        """(n,)"""
        tables = self.attributes.only(LABEL + name)
        return [label for table in tables for label in table.labels.get(name) or [None] * len(table)]

    @cached_property
    def _texts(self) -> CorpusTexts:
        return CorpusTexts(*open_corpus(self.inputs))

    def place(self, uri: str) -> tuple[int, int]:
        """The number of a document's shard, and its place there."""
        return self._texts.place(compute().index(self.uris, uri).as_py())

    def text(self, uri: str) -> str:
        """A document's text as it was extracted."""
        return self._texts.extracted(*self.place(uri))


VERDICTS = ("kept", "cut", "dropped", "gone", "out_of_scope")

# ---------------------------------------------------------------------------------------------------------------------
# Thresholds and alarms


def sides(step: Step) -> Iterator[tuple[str, str, float]]:
    """Score, side ("at least" or "at most") and threshold of all limits of a step."""
    for name, limit in step.all_limits.items():
        both = (("at least", limit.at_least), ("at most", limit.at_most))
        yield from ((name, side, threshold) for side, threshold in both if threshold is not None)


def thresholds(filtered: Filtered) -> Iterator[tuple[Step, str, str, float, NDArray[np.float64]]]:
    """The same of all steps, each with (n,) the values of the documents that came to the step and that it looks at, NaN
    for the others."""
    for number, step in enumerate(filtered.policy.steps, start=1):
        for name, side, threshold in sides(step):
            if name in filtered.scores:
                looked_at = filtered.verdicts[:, number] < VERDICTS.index("gone")
                yield step, name, side, threshold, np.where(looked_at, filtered.scores[name], np.nan)


def margin(side: str, threshold: float, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far values are on the side that stays, as shares of the threshold, or, where that is itself between 0 and 1
    and so taken for a share, of the way to the nearer end. So a limit on a share and the same one on all that it is not
    a share of have equal margins. Negative on the other side; with a threshold of 0 the margin is the distance."""
    distance = values - threshold if side == "at least" else threshold - values
    return distance / ((min(threshold, 1 - threshold) if 0 < threshold < 1 else abs(threshold)) or 1.0)


@dataclass(frozen=True, slots=True)
class Alarm:
    """A step, or all of them together, that took more of a source, or of a kind or a language in it, than the policy
    lets pass in silence; shares from 0 to 1."""

    source: str
    step: str
    documents: float
    bytes: float

    def __str__(self) -> str:
        shares = f"{self.documents:.0%} of the documents and {self.bytes:.0%} of the bytes"
        return f"{self.step} took {shares} of {self.source}"


def alarms(filtered: Filtered) -> list[Alarm]:
    """Every step that took more than the policy's share of what a source had in the beginning; all steps together where
    they did and no single one; and all steps where they took it of kinds and languages that matter in a source."""
    raised, wholes = list[Alarm](), dict[str, Tally]()

    def add(name: str, step: str, taken: Tally, whole: Tally) -> None:
        alarm = Alarm(name, step, taken.dropped / whole.came, taken.taken_bytes / max(whole.came_bytes, 1))
        if max(alarm.documents, alarm.bytes) > filtered.policy.alarm:
            raised.append(alarm)

    def all_steps(steps: Mapping[Any, Tally], *key: str) -> Tally:
        """All that came to the first step, and that the last one left."""
        first, last = steps[*key, REPAIR], steps[*key, EMPTY]
        return Tally(first.came, first.came_bytes, last.left, last.left_bytes)

    steps = tally(filtered.flows, "source", "step")
    for source in sorted({source for source, _ in steps}):
        wholes[source] = all_steps(steps, source)
        for name in filtered.policy.names:
            add(source, name, steps[source, name], wholes[source])
        if source not in {alarm.source for alarm in raised}:
            add(source, "all steps", wholes[source], wholes[source])
    for by in ("kind", "language"):
        steps = tally(filtered.flows, "source", by, "step")
        for source, name in sorted({(source, name) for source, name, _ in steps}):
            part, whole = all_steps(steps, source, name), wholes[source]
            matters = part.dropped > _LEAST * whole.came or part.taken_bytes > _LEAST * whole.came_bytes
            if matters and _FEWEST <= part.came < whole.came:
                add(f"the {by} {name or 'unknown'} in {source}", "all steps", part, part)
    return raised
