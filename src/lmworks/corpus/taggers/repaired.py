"""The text of a document as it is measured: after the repairs of its kind."""

from lmworks.corpus.attributes import kind_of
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.modifiers.book_words import OthersWords
from lmworks.corpus.modifiers.repair import repair
from lmworks.corpus.taggers.front_matter import repair_matter
from lmworks.records import Document, Edit


def repairs_for(document: Document, others: OthersWords | None = None) -> list[Edit]:
    """The edits that mend a document, by the kind of its source; a book's without its front and back matter, and with
    the words of the other books as well, where they are given."""
    if (kind := kind_of(document)) != "book":
        return repair(document.text, kind)
    return repair(document.text, kind, others(document.text) if others else None, repair_matter(document.text))


def repaired_text(document: Document) -> str:
    """What `data.annotate` measures, but for what other books of a corpus tell; models for it have to learn from it."""
    return apply_edits(document.text, repairs_for(document)).text
