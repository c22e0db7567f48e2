"""From a cleaned document back to the text that was extracted: the edits between them, and a place in both."""

import json
from dataclasses import dataclass
from pathlib import Path

from lmworks.data.cleaning.writing import EDITS
from lmworks.data.edits import apply_edits
from lmworks.records import Edit


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a cleaned text comes from: `extracted` is the hash of the text that `edits` changed."""

    uri: str
    extracted: str
    edits: tuple[Edit, ...]

    def place(self, text: str, start: int, end: int) -> tuple[int, int]:
        """The smallest range of the extracted `text` that `[start, end)` of the cleaned text stands for; code points.

        Raises ValueError where the edits are not those of this text, or the range lies outside of it.
        """
        return apply_edits(text, self.edits).to_source(start, end)


def cleaned_uris(folder: Path, begin: str) -> list[str]:
    """The uris of all documents that the stage data.clean left in its folder whose hashes begin so: those of equal
    texts are equal. Reads the folder's edits as `origin_of`."""
    path = folder / EDITS
    if not path.is_file():
        return []
    row = _row_of(begin)
    with path.open("rb") as stream:
        return [json.loads(line)["uri"] for line in stream if line.startswith(row)]


def _row_of(begin: str) -> bytes:
    """How the row of a document begins whose hash does so."""
    return f'{{"hash": "{begin}'.encode()


def origin_of(folder: Path, document_hash: str) -> Origin | None:
    """The first document of this hash that the stage data.clean left in its folder; None where there is none.

    Reads the folder's edits from their beginning: this is for one question, not for every document.
    """
    path = folder / EDITS
    if not path.is_file():
        return None
    begin = _row_of(f'{document_hash}"')
    with path.open("rb") as stream:
        row = next((line for line in stream if line.startswith(begin)), None)
    if row is None:
        return None
    found = json.loads(row)
    return Origin(found["uri"], found["extracted"], tuple(Edit(*edit) for edit in found["edits"]))
