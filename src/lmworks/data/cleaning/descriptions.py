"""What is known of a document beside its text, from its source and from its annotations: cleaned documents carry it,
and the data card counts it."""

from lmworks.data.annotate.licence import LICENCE, licence_of
from lmworks.data.annotation_table import AnnotationTable
from lmworks.data.languages import MEASURED, language_of
from lmworks.records import Document


def label_of(table: AnnotationTable, name: str, place: int) -> str | None:
    """A label of the document at this place of the table; None where it has none."""
    return table.labels[name][place] if name in table.labels else None


def licence_of_document(document: Document, table: AnnotationTable, place: int) -> str | None:
    """An expression of SPDX: what source and text say together. None where neither says anything, also where the
    source has only a word such as "unknown" for it."""
    joined = label_of(table, LICENCE, place)
    if joined or not document.licence:
        return joined
    called = licence_of(document.licence)
    return str(called) if called else None


def language_of_document(document: Document, table: AnnotationTable, place: int) -> str | None:
    """By the rule of `languages.py`: the measured one, or else the declared one."""
    return language_of(label_of(table, MEASURED, place), document.language)
