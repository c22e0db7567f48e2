"""Duplicates in the report: clusters of documents of which one stays, and where they differ, side by side."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lmworks.data.annotation_table import AnnotationTable
from lmworks.data.cleaning.cluster_view import Cluster, Member, shown_clusters
from lmworks.data.cleaning.differences import side_by_side
from lmworks.data.cleaning.ledger import Entry
from lmworks.data.cleaning.local import Reason
from lmworks.data.corpus import CorpusShard
from lmworks.data.edits import apply_edits
from lmworks.data.store import Shard
from lmworks.excerpts import Passage, marked
from lmworks.report import Fold, Section, Table

LISTED, FOLDED = 20, 1000  # clusters in the table, and in the one that opens
MEMBERS = 3  # of a cluster that are shown beside their twins


def twin_entries(ledger: Path) -> Iterator[Entry]:
    """The rows of a ledger that clusters are made of: of documents that were dropped, and of those for whose sake. Of
    each only what is needed for that is read."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    columns = ["document", "step", "verdict", "characters_before", "rule", "value", "twin"]
    dropped = pq.read_table(ledger, columns=columns, filters=pc.field("verdict").cast("string") == "dropped")
    twins = pa.array(sorted({twin for twin in dropped["twin"].to_pylist() if twin is not None}), pa.string())
    others = pq.read_table(ledger, columns=columns, filters=pc.field("document").isin(twins))
    others = others.filter(pc.field("verdict").cast("string") != "dropped")
    for row in (row for table in (others, dropped) for row in table.to_pylist()):
        size = row["characters_before"]
        reasons = (Reason(row["rule"], row["value"], twin=row["twin"]),) if row["verdict"] == "dropped" else ()
        yield Entry(row["document"], "", "", "", None, row["step"], row["verdict"], size, 0, 0, 0, reasons)


def repaired_texts(
    shards: Sequence[CorpusShard], tables: Sequence[AnnotationTable], uris: Sequence[str]
) -> dict[str, str]:
    """uri → the text after repair, of those documents that are there; only these are read."""
    wanted, found = set(uris), {}
    for shard, table in zip(shards, tables, strict=True):
        places = [place for place, uri in enumerate(table.uris) if uri in wanted]
        reader = Shard(shard.path)  # reads nothing yet
        for place in places:
            edits = table.edits[place] if table.edits else ()
            found[table.uris[place]] = apply_edits(reader.read(place).text, edits).text
    return found


def clusters_section(clusters: Sequence[Cluster], texts: Callable[[Sequence[str]], dict[str, str]]) -> Section:
    """`texts` gives the repaired texts of documents by their uris."""
    if not clusters:
        return Section("Duplicates", "No document was dropped as a duplicate.")
    went = sum(len(cluster.members) for cluster in clusters)
    text = (
        f"{went:,} documents were dropped for the sake of {len(clusters):,} others. The report shows texts of the "
        "largest clusters and of some that hashes of their names drew: on the left the document for whose sake "
        "another went, on the right that one, the least alike first."
    )
    shown = shown_clusters(clusters)
    members = [member for cluster in shown for member in cluster.members[:MEMBERS]]
    found = texts(sorted({uri for member in members for uri in (member.twin, member.uri)}))
    folds = [Fold(_title(cluster), passages=tuple(_passages(cluster, found))) for cluster in shown]
    rows = tuple(
        (cluster.survivor, len(cluster.members), f"{cluster.members[0].similarity:.3f}", ", ".join(_steps(cluster)))
        for cluster in clusters
    )
    header = ("stays", "dropped", "lowest similarity", "by")
    if len(rows) > LISTED:
        which = "All" if len(rows) <= FOLDED else f"The {FOLDED:,} largest of"
        told = f"{which} {len(rows):,} clusters"
        folds.insert(0, Fold(told, tables=(Table(header, rows[:FOLDED]),)))
    return Section("Duplicates", text, (Table(header, rows[:LISTED]),), folds=tuple(folds))


def _steps(cluster: Cluster) -> list[str]:
    return list(dict.fromkeys(member.step for member in cluster.members))


def _title(cluster: Cluster) -> str:
    later = "" if cluster.stays else ", which a later step dropped itself"
    return f"{len(cluster.members):,} like {cluster.survivor}{later}"


def _passages(cluster: Cluster, texts: dict[str, str]) -> Iterator[Passage]:
    for member in cluster.members[:MEMBERS]:
        note = f"{member.step}: {member.rule}, similarity {member.similarity:.3f}"
        if member.twin != cluster.survivor:
            note += f"; {member.twin} went later itself, in the end for the sake of {cluster.survivor}"
        first, second = texts[member.twin], texts[member.uri]
        found = side_by_side(first, second)
        for left, right in found:
            yield Passage(member.twin, left, note, member.uri, right)
        if not found:
            yield _equal(member, second, note)


def _equal(member: Member, text: str, note: str) -> Passage:
    return Passage(member.uri, marked(text, (), 0, 300), f"{note}; the text is that of {member.twin}")
