"""The text of a document as it is measured: after the repairs of its kind."""

from functools import cache

from lmworks.corpus.attributes import Kind, kind_of
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.modifiers.book_words import OthersWords
from lmworks.corpus.modifiers.repair import Repair, apply_repairs, repairs_of
from lmworks.records import Document, Edit


def repairs_for(document: Document, others: OthersWords | None = None) -> list[Edit]:
    """The edits that mend a document, by the kind of its source; a book's with the words of the other books as well,
    where they are given."""
    kind = kind_of(document)
    words = others(document.text) if others and kind == "book" else None
    return apply_repairs(document.text, _repairs(kind) if words is None else repairs_of(kind, words))


def repaired_text(document: Document) -> str:
    """What `data.annotate` measures, but for what other books of a corpus tell; models for it have to learn from it."""
    return apply_edits(document.text, repairs_for(document)).text


@cache
def _repairs(kind: Kind) -> tuple[Repair, ...]:
    return repairs_of(kind)
