"""Who went for the sake of whom, to the end: a later step may have dropped the document for whose sake another went.

Only the first reason of the step that dropped a document counts, as everywhere in the report.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_COLUMNS = ["document", "step", "rule", "value", "twin"]


@dataclass(frozen=True, slots=True)
class Gone:
    """A document that was dropped: by which step and rule, and for the sake of which `twin`, to which it has that
    similarity. Without a twin it went for a reason of its own."""

    document: str
    step: str
    rule: str
    similarity: float | None = None
    twin: str | None = None


class Chains:
    """The documents that a ledger says were dropped; nothing else of it is read."""

    def __init__(self, ledger: Path) -> None:
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        dropped = pc.field("verdict").cast("string") == "dropped"
        self._rows: Any = pq.read_table(ledger, columns=_COLUMNS, filters=dropped)

    def of(self, documents: Collection[str]) -> dict[str, tuple[Gone, ...]]:
        """Document → how it went, then how its twin did, and so on; empty for one that stays. The last one went for
        the sake of a document that stays, or for a reason of its own."""
        known: dict[str, Gone] = {}
        wanted = {*documents}
        while wanted:
            found = self._where("document", wanted)
            known |= {gone.document: gone for gone in found}
            wanted = {gone.twin for gone in found if gone.twin is not None} - known.keys()
        return {document: _followed(document, known) for document in documents}

    def went_for(self, document: str) -> list[Gone]:
        """All that went for the sake of a document, or of one that went for its sake in turn; in the ledger's order."""
        mine, last = {document}, {document}
        while last:
            last = {gone.document for gone in self._where("twin", last)} - mine
            mine |= last
        return self._where("twin", mine)

    def _where(self, column: str, names: Collection[str]) -> list[Gone]:
        import pyarrow as pa
        import pyarrow.compute as pc

        rows = self._rows.filter(pc.field(column).isin(pa.array(sorted(names), pa.string()))).to_pylist()
        return [Gone(row["document"], row["step"], row["rule"], row["value"], row["twin"]) for row in rows]


def _followed(document: str | None, known: dict[str, Gone]) -> tuple[Gone, ...]:
    chain: list[Gone] = []
    while document in known:
        chain.append(known[document])
        document = chain[-1].twin
    return tuple(chain)


def twin_in_words(twin: str, step: str, chain: Sequence[Gone]) -> str:
    """What became of the twin of a document that `step` dropped: 'b, which went later (alike) for the sake of c, which
    stays'. `chain` is that of the twin."""
    told = twin
    for gone in chain:
        told += f", which went {'too' if gone.step == step else 'later'} ({gone.step})"
        if gone.twin is not None:
            told += f" for the sake of {gone.twin}"
        step = gone.step
    return told if chain and chain[-1].twin is None else f"{told}, which stays"
