"""Examples for a classifier: documents, and whether each has the label that is looked for."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmworks.data.annotate.repaired import repaired_text
from lmworks.data.annotate.words import tokens
from lmworks.data.config import ReadConfig
from lmworks.data.reading import read_documents
from lmworks.progress import Report, no_report
from lmworks.records import Document, LeftOut, column_key

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


# ---------------------------------------------------------------------------------------------------------------------
# Documents


@dataclass(frozen=True, slots=True)
class LabelColumn:
    """Where the label of a row is, and which of its words is looked for; without one, true and false (or 1 and 0)."""

    name: str
    positive: str = ""


def documents_in(
    sources: Sequence[str], reading: ReadConfig, left_out: list[LeftOut], base: Path | None = None
) -> Iterator[Document]:
    """The documents of sources, in their order, as `data.read` would make them. NoSourceError for a source that does
    not exist."""
    for source in sources:
        config = ReadConfig(
            sources=(source,),
            exclude=reading.exclude,
            max_bytes=reading.max_bytes,
            source_code=reading.source_code,
            kind=reading.kind,
            columns=reading.columns,
        )
        for item in read_documents(config, base=base or Path.cwd()):
            if isinstance(item, Document):
                yield item
            else:
                left_out.append(item)


def examples_of(
    documents: Iterable[Document], label: bool | LabelColumn, group: str = "", progress: Report = no_report
) -> Iterator[Example]:
    """Examples as `data.annotate` sees them, after repair: of one label, or each with that of its row. `group`: the
    column whose words make groups. ValueError where a row lacks the label, or has one that is neither yes nor no."""
    for number, document in enumerate(documents, start=1):
        has = label if isinstance(label, bool) else _label_of(document, label)
        together = _column(document, group) if group else None
        yield Example(repaired_text(document), has, document.uri, together or "")
        progress(number, None, "documents")


def _column(document: Document, name: str) -> str | None:
    return document.metadata.get(column_key(name), document.metadata.get(name))


def _label_of(document: Document, column: LabelColumn) -> bool:
    word = _column(document, column.name)
    if word is None:
        columns = ", ".join(sorted(document.metadata)) or "none"
        raise ValueError(
            f'{document.uri} has no label in a column "{column.name}": its other columns are {columns}; name the '
            "column that holds the labels, or give texts without the label by --against"
        )
    if column.positive:
        return word == column.positive
    if word.casefold() not in _YES | _NO:
        raise ValueError(
            f'{document.uri} has the label "{word}", which is neither true nor false: say which word is looked for, '
            f'such as --positive "{word}"'
        )
    return word.casefold() in _YES


# ---------------------------------------------------------------------------------------------------------------------
# What can be learned from


@dataclass(frozen=True, slots=True)
class Usable:
    """Different texts of one label each, and how many were left out for not being such.

    copies     Texts that an example before them has, with the same label.
    contrary   Texts that stand on both sides; none of their examples is used.
    wordless   Examples without a word or sign.
    """

    examples: tuple[Example, ...]
    copies: int
    contrary: int
    wordless: int


def usable(examples: Iterable[Example]) -> Usable:
    """Those of the examples that something can be learned from; ValueError where there are too few of them."""
    labels: dict[str, set[bool]] = defaultdict(set)
    first: dict[str, Example] = {}
    counts: Counter[str] = Counter()
    for example in examples:
        if not tokens(example.text):
            counts["wordless"] += 1
            continue
        counts["copies"] += example.label in labels[example.text]
        labels[example.text].add(example.label)
        first.setdefault(example.text, example)
    contrary = {text for text, both in labels.items() if len(both) > 1}
    kept = tuple(example for text, example in first.items() if text not in contrary)
    found = Usable(kept, counts["copies"], len(contrary), counts["wordless"])
    _check_enough(found)
    return found


def _check_enough(found: Usable) -> None:
    positives = sum(example.label for example in found.examples)
    negatives = len(found.examples) - positives
    if positives >= LEAST and negatives >= LEAST:
        return
    lacking = [
        f"{LEAST - number} more {side} it"
        for number, side in ((positives, "with"), (negatives, "without"))
        if number < LEAST
    ]
    beside = [
        f"{number} {what}"
        for number, what in (
            (found.copies, "copies of others"),
            (found.contrary, "texts with and without the label"),
            (found.wordless, "texts without a word"),
        )
        if number
    ]
    not_counted = f" ({', '.join(beside)} do not count)" if beside else ""
    raise ValueError(
        f"there are {positives} different texts with the label and {negatives} without it{not_counted}; it takes "
        f"{LEAST} of each: give {' and '.join(lacking)}"
    )


def examples_from(
    sources: Sequence[str],
    against: Sequence[str] = (),
    label: LabelColumn | None = None,
    *,
    group: str = "",
    reading: ReadConfig | None = None,
    base: Path | None = None,
    left_out: list[LeftOut] | None = None,
    progress: Report = no_report,
) -> Usable:
    """What can be learned from of sources with the label and others `against` them, or of sources whose rows say in the
    column `label` whether they have it.

    reading   How files are read; its own sources do not count.
    base      Where relative sources start; the current folder.
    left_out  Gets what could not be read.

    ValueError where there is too little, NoSourceError (a ValueError) for a source that does not exist.
    """
    if bool(against) == (label is not None):
        raise ValueError(
            "say which texts do not have the label: either sources against, or the column of the labels of the rows"
        )
    reading, left_out = reading or ReadConfig(source_code="whole"), [] if left_out is None else left_out
    found: list[Example] = []
    for side, has in ((sources, label or True), (against, False)):
        found += examples_of(documents_in(side, reading, left_out, base), has, group, progress)
    try:
        return usable(found)
    except ValueError as error:
        told = next((f"{item.uri}: {item.reason}" for item in left_out if "columns.text" in item.reason), "")
        raise ValueError(f"{told}; a command takes it as --text COLUMN. So {error}" if told else str(error)) from error
