"""Where the headings of docstrings stand once their document was cleaned.

Their offsets are kept beside the text, since a line of a docstring may look like a heading (see `docstrings.py`).
"""

from collections.abc import Iterable

from lmworks.data.docstrings import EXTRACTOR, HEADINGS
from lmworks.data.edits import apply_edits
from lmworks.records import Document, Edit


def moved_headings(document: Document, edits: Iterable[Edit]) -> dict[str, str]:
    """The metadata that tell where headings are in the text that `edits` make of the document's; those whose sign was
    taken out are left out. Nothing for documents that keep no headings."""
    if document.extractor != EXTRACTOR or HEADINGS not in document.metadata:
        return {}
    clean = apply_edits(document.text, edits)
    moved = (clean.from_source(int(offset)) for offset in document.metadata[HEADINGS].split())
    return {HEADINGS: " ".join(str(offset) for offset in moved if offset is not None)}
