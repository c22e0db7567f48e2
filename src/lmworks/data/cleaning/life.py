"""The life of a document: what each step of cleaning made of it."""

from dataclasses import dataclass

from lmworks.data.cleaning.fields import FieldFind
from lmworks.data.cleaning.ledger import Entry
from lmworks.records import Document, Edit


@dataclass(frozen=True, slots=True)
class Life:
    """What became of one document: an entry for each step, its text as it was extracted and after repair, what stayed
    of it, the edits from the extracted text to that, and what was found beside the text of one that stays."""

    entries: tuple[Entry, ...]
    extracted: str
    repaired: str
    cleaned: Document | None
    edits: tuple[Edit, ...]
    beside: tuple[FieldFind, ...] = ()
