"""Examples for a classifier: documents, and whether each has the label that is looked for."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lmworks.corpus.read.config import ReadConfig
from lmworks.corpus.read.document_reader import read_documents
from lmworks.corpus.taggers.repaired import repaired_text
from lmworks.corpus.taggers.words import tokens
from lmworks.progress import Report, no_report
from lmworks.records import Document, RejectedRecord, column_key

LEAST = 50  # different texts with the label, and without it: fewer leave next to none to calibrate and evaluate with
_YES, _NO = frozenset(("true", "1")), frozenset(("false", "0"))


@dataclass(frozen=True, slots=True)
class Example:
    """A text, and whether it has the label that is looked for.

    name   What it is called in tables.
    group  Examples of one group are learned from, or evaluated with, but not both; "": each is a group of its own.
    """

    text: str
    label: bool
    name: str = ""
    group: str = ""


def examples_from(
    sources: Sequence[str],
    against: Sequence[str] = (),
    *,
    label: str = "",
    positive: str = "",
    group: str = "",
    reading: ReadConfig | None = None,
    base: Path | None = None,
    left_out: list[RejectedRecord] | None = None,
    progress: Report = no_report,
) -> list[Example]:
    """What can be learned from of sources with the label and others `against` them, or of sources whose rows say in the
    column `label` whether they have it.

    positive  The word in that column which is looked for; without one, true and false (or 1 and 0).
    group     The column whose words make groups.
    reading   How files are read; its own sources do not count.
    base      Where relative sources start; the current folder.
    left_out  Gets what could not be read.

    ValueError where there is too little, NoSourceError (a ValueError) for a source that does not exist.
    """
    if bool(against) == bool(label):
        raise ValueError(
            "say which texts do not have the label: either sources against, or the column of the labels of the rows"
        )
    reading, left_out = reading or ReadConfig(source_code="whole"), [] if left_out is None else left_out
    found: list[Example] = []
    for side, is_positive in ((sources, True), (against, False)):
        for document in documents_in(side, reading, left_out, base):
            has = _has_label(document, label, positive) if label else is_positive
            together = _column(document, group) or "" if group else ""
            found.append(Example(repaired_text(document), has, document.uri, together))
            progress(len(found), None, "documents")
    try:
        return usable(found)
    except ValueError as error:
        reason = next((f"{item.uri}: {item.reason}" for item in left_out if "columns.text" in item.reason), "")
        raise ValueError(f"{reason}; a command takes it as --text COLUMN. So {error}" if reason else error) from error


def documents_in(
    sources: Sequence[str], reading: ReadConfig, left_out: list[RejectedRecord], base: Path | None = None
) -> Iterator[Document]:
    """The documents of sources, in their order, as `data.read` would make them. NoSourceError for a source that does
    not exist."""
    for source in sources:
        for item in read_documents(replace(reading, sources=(source,)), base=base or Path.cwd()):
            if isinstance(item, Document):
                yield item
            else:
                left_out.append(item)


def usable(examples: Iterable[Example]) -> list[Example]:
    """The first of each text that has words, and one label alone; ValueError where there are too few of them."""
    labels: dict[str, set[bool]] = defaultdict(set)
    first: dict[str, Example] = {}
    for example in examples:
        if tokens(example.text):
            labels[example.text].add(example.label)
            first.setdefault(example.text, example)
    kept = [example for text, example in first.items() if len(labels[text]) == 1]
    sides = Counter(example.label for example in kept)
    if min(sides[True], sides[False]) < LEAST:
        raise ValueError(
            f"there are {sides[True]} different texts with the label and {sides[False]} without it, of those that have "
            f"words and are not on both sides: give {LEAST} of each"
        )
    return kept


def _column(document: Document, name: str) -> str | None:
    return document.metadata.get(column_key(name), document.metadata.get(name))


def _has_label(document: Document, label: str, positive: str) -> bool:
    word = _column(document, label)
    if word is None:
        columns = ", ".join(sorted(document.metadata)) or "none"
        raise ValueError(
            f'{document.uri} has no label in a column "{label}": its other columns are {columns}; name the column that '
            "holds the labels, or give texts without the label by --against"
        )
    if not positive and word.casefold() not in _YES | _NO:
        raise ValueError(
            f'{document.uri} has the label "{word}", which is neither true nor false: say which word is looked for, '
            f'such as --positive "{word}"'
        )
    return word == positive if positive else word.casefold() in _YES
