"""The text of a document as it is measured: after the repairs of its kind."""

from functools import cache

from lmworks.data.annotation import Kind
from lmworks.data.documents_of import kind_of
from lmworks.data.edits import apply_edits
from lmworks.data.repair.repairing import Repair, apply_repairs, repairs_of
from lmworks.records import Document, Edit


def repairs_for(document: Document) -> list[Edit]:
    """The edits that mend a document, by the kind of its source."""
    return apply_repairs(document.text, _repairs(kind_of(document)))


def repaired_text(document: Document) -> str:
    """What `data.annotate` measures, and so what models for it have to learn from."""
    return apply_edits(document.text, repairs_for(document)).text


@cache
def _repairs(kind: Kind) -> tuple[Repair, ...]:
    return repairs_of(kind)
