"""Questions to a cleaning, answered from its ledger, from what is known of the documents, and from those that stay.

Tables are pyarrow's. A document is named by its place, 0 to n - 1, which it has in the ledger and in the annotations.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmworks.config import from_mapping
from lmworks.corpus.attributes import AttributeTable, CorpusAttributes, TaggedSpan, of_rules, rules_of
from lmworks.corpus.documents import REJECTED, shard_paths
from lmworks.corpus.filtering.filter_policy import EMPTY, REPAIR, Policy, Step
from lmworks.corpus.filtering.flows import Amount, Flow, SourcePart, read_flows
from lmworks.corpus.filtering.ledger import LEDGER, compute
from lmworks.records import RejectedRecord

CONTAMINATION, ITEM = "contamination", "evaluation_item"
LANGUAGE = "label.language"
FACETS = ("kind", "licence", "language", "year")
_FIRST_FOLDER = re.compile(r"[a-z]+://([^/]+)/|([^/]*)/")  # or the host of an address


@dataclass(frozen=True, eq=False)
class Cleaning:
    """`folder` holds the ledger and the documents that stay; `tables` are the annotations of those that came."""

    folder: Path
    policy: Policy
    tables: Sequence[AttributeTable]

    @property
    def steps(self) -> tuple[str, ...]:
        return (REPAIR, *(step.name for step in self.policy.steps), EMPTY)

    def read(self, *names: str) -> Sequence[AttributeTable]:
        """The tables with these columns of attributes."""
        return self.tables.only(*names) if isinstance(self.tables, CorpusAttributes) else self.tables

    @cached_property
    def flows(self) -> list[Flow]:
        return read_flows(self.folder / LEDGER)

    @cached_property
    def documents(self) -> Any:
        """A row for each document: document, hash, source, kind, before and after (bytes), stays."""
        pc = compute()
        first = self._rows(["document", "hash", "source", "kind", "bytes_before"], "step", REPAIR)
        last = self._rows(["verdict", "bytes_after"], "step", EMPTY)
        stays = pc.is_in(last["verdict"].cast("string"), _array(["kept", "cut"]))
        found = first.rename_columns(["document", "hash", "source", "kind", "before"]).append_column("stays", stays)
        return found.append_column("after", pc.if_else(stays, last["bytes_after"], 0))

    @cached_property
    def stays(self) -> NDArray[np.bool_]:
        """(n,)"""
        return self.documents["stays"].to_numpy()

    @cached_property
    def dropped(self) -> Any:
        """A row for each document that went, by the first reason: document, hash, step, rule, value, threshold, label
        and twin."""
        columns = ["document", "hash", "step", "rule", "value", "threshold", "label", "twin"]
        return self._rows(columns, "verdict", "dropped")

    def places(self, documents: Sequence[str]) -> list[int]:
        """Those of documents of these uris."""
        return compute().index_in(_array(documents), self.documents["document"].combine_chunks()).to_pylist()

    def _rows(self, columns: list[str], name: str, value: str) -> Any:
        return read_rows(self.folder / LEDGER, columns, name, [value])

    # -----------------------------------------------------------------------------------------------------------------
    # What was cut

    def cuts(self) -> Iterator[Any]:
        """All cuts, some at a time: place, step, rule, start, end, written (characters)."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        pc = compute()
        row = 0
        for batch in pq.ParquetFile(self.folder / LEDGER).iter_batches(columns=["step", "cuts"]):
            rows, cuts = pc.list_parent_indices(batch["cuts"]), batch["cuts"].flatten()
            columns = {name: cuts.field(name) for name in ("rule", "start", "end")}
            columns |= {
                "place": pc.divide(pc.add(rows, row), len(self.steps)),
                "step": batch["step"].cast("string").take(rows),
                "written": pc.utf8_length(cuts.field("replacement")),
            }
            yield pa.table(columns)
            row += len(batch)

    @cached_property
    def cut_rules(self) -> list[tuple[Any, ...]]:
        """Step and rule: documents, places, characters that went, characters written in their place; those that took
        most first."""
        pc = compute()
        counts: Counter[tuple[str, str, int]] = Counter()
        for cuts in self.cuts():
            cuts = cuts.append_column("taken", pc.subtract(cuts["end"], cuts["start"]))
            found = cuts.group_by(["step", "rule"]).aggregate(
                [("place", "count_distinct"), ("place", "count"), ("taken", "sum"), ("written", "sum")]
            )
            for step, rule, *numbers in zip(*(found[name].to_pylist() for name in found.column_names), strict=True):
                counts.update({(step, rule, number): count for number, count in enumerate(numbers)})
        rules = {(step, rule) for step, rule, _ in counts}
        rows: list[tuple[Any, ...]] = [(*rule, *(counts[*rule, number] for number in range(4))) for rule in rules]
        return sorted(rows, key=lambda row: (-row[4], *row[:2]))

    # -----------------------------------------------------------------------------------------------------------------
    # Measures and marks

    @cached_property
    def measured(self) -> set[str]:
        """The measures that documents have."""
        return {name for table in self.tables for name in table.scores}

    def measure(self, name: str, step: Step | None = None) -> NDArray[np.float64]:
        """(n,) NaN where a document has none, or the step does not look at it."""
        parts = [np.empty(0)]
        for table in self.read(f"score.{name}", LANGUAGE):
            values = table.scores[name] if name in table.scores else np.full(len(table), np.nan)
            parts.append(values if step is None else np.where(_scope(step, table), values, np.nan))
        return np.concatenate(parts)

    def marks(self, is_meant: Callable[[str], bool]) -> Iterator[tuple[int, TaggedSpan]]:
        """Those whose rules are meant, with the places of their documents."""
        start = 0
        for table in self.read("spans"):
            for place, mark in of_rules(table.spans, list(filter(is_meant, rules_of(table.spans)))):
                yield start + place, mark
            start += len(table)

    @cached_property
    def duplicates(self) -> "Duplicates":
        return Duplicates(self.folder / LEDGER)

    def labels(self, name: str) -> list[str | None]:
        return [
            label for table in self.read(f"label.{name}") for label in table.labels.get(name) or [None] * len(table)
        ]

    def scope(self, step: Step) -> NDArray[np.bool_]:
        """(n,) which documents a step looks at."""
        return np.concatenate([np.empty(0, bool), *(_scope(step, table) for table in self.read(LANGUAGE))])

    # -----------------------------------------------------------------------------------------------------------------
    # What a corpus consists of

    def parts(self) -> list[SourcePart]:
        """Every source, its first folders or hosts, and its kinds: what was read, and what stays."""
        import pyarrow as pa

        documents = self.documents
        uris, sources = documents["document"].to_pylist(), documents["source"].to_pylist()
        folders = [_folder(uri, source) for uri, source in zip(uris, sources, strict=True)]
        documents = documents.append_column("folder", _array(folders)).append_column("all", _array([""] * len(uris)))
        documents = documents.set_column(0, "one", pa.repeat(1, len(uris)))
        found = []
        for facet, name in (
            ("all", "{source}"),
            ("folder", "{source}/{value}"),
            ("kind", "the kind {value} in {source}"),
        ):
            keys = ["source", facet]
            sums = [(column, "sum") for column in ("one", "before", "stays", "after")]
            counted = documents.group_by(keys).aggregate(sums).sort_by([(key, "ascending") for key in keys])
            for row in counted.to_pylist():
                if facet == "all" or row[facet]:
                    before, after = (
                        Amount(row["one_sum"], row["before_sum"]),
                        Amount(row["stays_sum"], row["after_sum"]),
                    )
                    source = row["source"]
                    found.append(SourcePart(source, name.format(source=source, value=row[facet]), before, after))
        return found

    @cached_property
    def facets(self) -> Counter[tuple[str, str, str]]:
        """How many documents that stay have a source, a facet and a value of it ("": unknown); `metadata` and `rows`
        (of tables, by their kind) are facets too."""
        found: Counter[tuple[str, str, str]] = Counter()
        for path in shard_paths(self.folder):
            with path.open("rb") as stream:
                for row in map(json.loads, stream):
                    values = {**row, "year": (row["date"] or "")[:4]}
                    found.update((row["source"], facet, values[facet] or "") for facet in FACETS)
                    found.update((row["source"], "metadata", name) for name in row["metadata"])
                    if row["extractor"] == "row":
                        found[row["source"], "rows", row["kind"]] += 1
        return found

    def values(self, facet: str, source: str | None = None) -> list[tuple[str, int]]:
        """The values of a facet, of one source or of all, the most frequent first."""
        counts: Counter[str] = Counter()
        for (of, name, value), number in self.facets.items():
            if name == facet and source in (None, of):
                counts[value] += number
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))

    # -----------------------------------------------------------------------------------------------------------------
    # What was found in them

    @cached_property
    def personal_data(self) -> list[tuple[Any, ...]]:
        """Each type: places found in texts, in how many documents; of those in documents that stay, the places that
        were taken out as a whole, and those that were left."""
        found = list(self.marks(lambda rule: rule.startswith("pii.")))
        if not found:
            return []
        places, marks = np.array([place for place, _ in found]), [mark for _, mark in found]
        gone = [cuts.filter(compute().not_equal(cuts["step"], REPAIR)) for cuts in self.cuts()]
        columns = [np.concatenate([cuts[name].to_numpy() for cuts in gone]) for name in ("place", "start", "end")]
        starts, ends = np.array([mark.start for mark in marks]), np.array([mark.end for mark in marks])
        removed = covered((places, starts, ends), columns)
        rules = np.array([mark.rule for mark in marks])
        rows = list[tuple[Any, ...]]()
        for rule in np.unique(rules):
            mine = rules == rule
            stay = mine & self.stays[places]
            counts = (mine.sum(), len(np.unique(places[mine])), (stay & removed).sum(), (stay & ~removed).sum())
            rows.append((str(rule), *map(int, counts)))
        return rows

    @cached_property
    def personal_fields(self) -> list[tuple[str, str, int, int, int]]:
        """Field (title, metadata, uri) and type: in how many documents that stay, what was taken out and what left. A
        type "" is any of them."""
        documents: Counter[tuple[str, str]] = Counter()
        counts: Counter[tuple[str, str, bool]] = Counter()
        for row in self._rows(["fields"], "step", EMPTY)["fields"].to_pylist():
            for find in row:
                counts.update((find["field"], rule, find["removed"]) for rule in (find["rule"], ""))
            documents.update({(find["field"], rule) for find in row for rule in (find["rule"], "")})
        return [(*key, number, counts[*key, True], counts[*key, False]) for key, number in sorted(documents.items())]

    def evaluation_items(self) -> list[tuple[str, int, int, float]]:
        """Each item that was found: in how many documents, how many of them stay, the highest share of it. Those first
        that most of what stays holds."""
        found: dict[str, list[float]] = {}
        shares = np.nan_to_num(self.measure(CONTAMINATION))
        for item, stays, share in zip(self.labels(ITEM), self.stays, shares.tolist(), strict=True):
            if item:
                documents, stay, most = found.get(item, (0, 0, 0.0))
                found[item] = [documents + 1, stay + int(stays), max(most, share)]
        rows = [(item, int(documents), int(stay), share) for item, (documents, stay, share) in found.items()]
        return sorted(rows, key=lambda row: (-row[2], -row[3], row[0]))


def covered(spans: Sequence[NDArray[np.int64]], cuts: Sequence[NDArray[np.int64]]) -> NDArray[np.bool_]:
    """(n,) whether all characters of a span are in cuts: what is left of half a number may be personal. Both are
    (places, starts, ends) of documents; cuts do not overlap, and several that touch may cover a span together."""
    width = 1 + max((int(ends.max()) for _, _, ends in (spans, cuts) if len(ends)), default=0)
    (places, starts, ends), (of, low, high) = spans, cuts
    order = np.lexsort((low, of))
    begins, sizes = (of * width + low)[order], (high - low)[order]
    before = np.concatenate([[0], np.cumsum(sizes)])

    def gone_until(at: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many characters of all documents are cut before each place of a line that all of them lie on."""
        number = np.searchsorted(begins, at, side="right")
        last = np.maximum(number - 1, 0)
        partly = np.minimum(at - begins[last], sizes[last]) if len(begins) else np.zeros_like(at)
        return np.where(number > 0, before[last] + partly, 0)

    return gone_until(places * width + ends) - gone_until(places * width + starts) == ends - starts


# ---------------------------------------------------------------------------------------------------------------------
# Thresholds


def thresholds(steps: Iterable[Step]) -> Iterator[tuple[Step, str, str, float]]:
    """Step, measure, side ("at least" or "at most") and threshold of all limits."""
    for step in steps:
        for name, limit in step.all_limits.items():
            if limit.at_least is not None:
                yield step, name, "at least", limit.at_least
            if limit.at_most is not None:
                yield step, name, "at most", limit.at_most


def margin(side: str, threshold: float, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far values are on the side that stays, as shares of the threshold, or, where that is itself between 0 and 1
    and so taken for a share, of the way to the nearer end. So a limit on a share and the same one on all that it is not
    a share of have equal margins. Negative on the other side; with a threshold of 0 all that stay are at it, and the
    margin is the distance."""
    distance = values - threshold if side == "at least" else threshold - values
    return distance / ((min(threshold, 1 - threshold) if 0 < threshold < 1 else abs(threshold)) or 1.0)


# ---------------------------------------------------------------------------------------------------------------------
# Duplicates


@dataclass(frozen=True, slots=True)
class Gone:
    """A document that was dropped: by which step and rule, and for the sake of which `twin`, to which it has that
    similarity. Without a twin it went for a reason of its own."""

    document: str
    step: str
    rule: str
    similarity: float | None = None
    twin: str | None = None


class Duplicates:
    """Who went for the sake of whom, to the end: a later step may have dropped the document that another went for."""

    def __init__(self, ledger: Path) -> None:
        self._rows = read_rows(ledger, ["document", "step", "rule", "value", "twin"], "verdict", ["dropped"])

    def chains(self, documents: Collection[str]) -> dict[str, tuple[Gone, ...]]:
        """Document → how it went, then how its twin did, and so on; empty for one that stays."""
        known: dict[str, Gone] = {}
        wanted = {*documents}
        while wanted:
            found = self._where("document", wanted)
            known |= {gone.document: gone for gone in found}
            wanted = {gone.twin for gone in found if gone.twin is not None} - known.keys()
        return {document: tuple(_chain(document, known)) for document in documents}

    def went_for(self, document: str) -> list[Gone]:
        """All that went for the sake of a document, or of one that went for its sake in turn; in the ledger's order."""
        mine, last = {document}, {document}
        while last:
            last = {gone.document for gone in self._where("twin", last)} - mine
            mine |= last
        return self._where("twin", mine)

    def clusters(self) -> list[tuple[str, int, float, str]]:
        """For each document that drove others out and was driven out by none: how many went for its sake, directly or
        by way of others, the lowest similarity to a twin, and the steps. The largest first."""
        known = {gone.document: gone for gone in _gone(self._rows.filter(compute().is_valid(self._rows["twin"])))}
        members: dict[str, list[Gone]] = {}
        for document in known:
            *_, last = _chain(document, known)
            members.setdefault(last.twin or "", []).append(known[document])
        rows = [
            (twin, len(mine), min(each.similarity or 0.0 for each in mine), ", ".join(sorted({e.step for e in mine})))
            for twin, mine in members.items()
        ]
        return sorted(rows, key=lambda row: (-row[1], row[0]))

    def _where(self, column: str, names: Collection[str]) -> list[Gone]:
        return _gone(self._rows.filter(compute().field(column).isin(_array(sorted(names)))))


def _gone(rows: Any) -> list[Gone]:
    return [Gone(*row.values()) for row in rows.to_pylist()]


def _chain(document: str | None, known: Mapping[str, Gone]) -> Iterator[Gone]:
    while document is not None and document in known:
        yield known[document]
        document = known[document].twin


# ---------------------------------------------------------------------------------------------------------------------


def read_rows(ledger: Path, columns: list[str] | None, name: str, values: Collection[str]) -> Any:
    """The rows of a ledger whose column `name` has one of these values; its words as texts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pc = compute()
    is_meant = pc.field(name).cast("string").isin(_array(sorted(values)))
    table = pq.read_table(ledger, columns=columns, filters=is_meant)
    plain = [field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field for field in table.schema]
    return table.cast(pa.schema(plain))


def read_left_out(folder: Path) -> list[RejectedRecord]:
    """What became no document, as an artefact's folder says."""
    path = folder / REJECTED
    rows = path.read_text("utf-8").split("\n")[:-1] if path.is_file() else []
    return [from_mapping(RejectedRecord, json.loads(row)) for row in rows]


def _array(words: Sequence[str]) -> Any:
    import pyarrow as pa

    return pa.array(words, pa.string())


def _scope(step: Step, table: AttributeTable) -> NDArray[np.bool_]:
    return step.in_scope(table.sources, table.kinds, table.labels.get("language"))


def _folder(uri: str, source: str) -> str:
    """The first folder within its source, or the host of an address there; "" for what lies in none."""
    found = _FIRST_FOLDER.match(uri.removeprefix(f"{source}/"))
    return (found[1] or found[2]) if found else ""
