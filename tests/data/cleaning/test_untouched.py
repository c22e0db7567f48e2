"""Steps that have nothing to say of a document: told from those that looked and found nothing against it."""

from typing import Any

import numpy as np
import pytest

from lmworks.data.annotation import Mark
from lmworks.data.annotation_table import AnnotationTable
from lmworks.data.cleaning.policy import Choice, Limit, OnMark, Step
from lmworks.data.cleaning.untouched import not_measured, out_of_scope, without_repairs


def step(**scope: Any) -> Step:
    return Step("s", limits={"words": Limit(1)}, **scope)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (step(), ""),
        (step(kinds=("web",)), "not looked at (kinds web)"),
        (step(kinds=("web", "text")), ""),
        (step(kinds=("web", "book"), sources=("n*",)), "not looked at (kinds web, book)"),
        (step(kinds=("web",), sources=("x",), languages=("de",)), "not looked at (sources x; kinds web; languages de)"),
        (step(languages=("de", "en")), ""),
    ],
)
def test_the_scopes_that_do_not_fit_are_named(given, told):
    assert out_of_scope(given, "notes", "text", "en") == told
    assert (told == "") == given.looks_at("notes", "text", "en")


def test_a_document_of_unknown_language_is_looked_at():
    assert out_of_scope(step(languages=("de",)), "notes", "text", None) == ""


def table(**columns) -> AnnotationTable:
    """One document, a text."""
    sizes = np.ones(1, np.int64)
    return AnnotationTable(["s/a"], [""], [columns.pop("kind", "text")], sizes, sizes, sources=["s"], **columns)


WORDS = {"words": np.array([3.0]), "lines": np.array([np.nan])}
ONE = Step("s", limits={"words": Limit(1), "lines": Limit(1)})
OTHER = Step("s", limits={"lines": Limit(1), "contamination": Limit(at_most=0.2)})
LICENCE = Step("s", labels={"licence": Choice(deny=("MIT",))})


@pytest.mark.parametrize(
    ("given", "known", "told"),
    [
        (ONE, table(measures=WORDS), ""),
        (OTHER, table(measures=WORDS), "not measured"),
        (LICENCE, table(labels={"licence": ["GPL-2.0-only"]}), ""),
        (LICENCE, table(labels={"licence": [None]}), "not measured (licence unknown)"),
        (LICENCE, table(), "not measured (licence unknown)"),
        (Step("s", duplicates="exact"), table(), ""),
        (Step("s", marks={"pii.*": OnMark()}), table(), "not measured"),
        (Step("s", marks={"pii.*": OnMark()}), table(measures={"pii_marks": np.zeros(1)}), ""),
        (Step("s", marks={"ocr.hopeless": OnMark()}), table(), "not measured"),
        (Step("s", marks={"ocr.hopeless": OnMark()}), table(kind="book"), ""),
        (Step("s", marks={"rude": OnMark()}), table(), ""),  # of a list of words: nothing says that nobody looked
        (Step("s", marks={"mail.*": OnMark()}), table(marks=[(Mark("mail.quote", 0, 1),)]), ""),
    ],
)
def test_what_was_measured_of_a_document(given, known, told):
    assert not_measured(given, known, 0) == told


def test_a_kind_without_repairs():
    assert without_repairs("code") == "kind code: no repairs"
    assert without_repairs("book") == without_repairs("text") == ""
