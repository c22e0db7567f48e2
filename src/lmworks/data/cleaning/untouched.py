"""Why a step has nothing to say of a document that it kept: it is not about it, or nothing that it goes by is known.

The ledger calls both `kept`, since the document came through as it was; whoever asks is told the difference.
"""

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import cast

import numpy as np

from lmworks.data.annotate.pii.scan import MEASURE as PERSONAL_DATA
from lmworks.data.annotation import Kind
from lmworks.data.annotation_table import AnnotationTable
from lmworks.data.cleaning.descriptions import label_of
from lmworks.data.cleaning.policy import Step
from lmworks.data.repair.repairing import repairs_of

NOT_MEASURED = "not measured"
_SCOPES = ("sources", "kinds", "languages")
# A text without a mark may be one in which nobody looked for it: beginning of a mark's name → the kind of text in which
# it is looked for, or the measure that a text has then. Marks of other names are taken for looked for.
_OF_KIND: dict[str, Kind] = {"ocr": "book", "matter": "book", "mail": "mail", "chat": "chat", "code": "code"}
_BESIDE = {"pii": PERSONAL_DATA, "contamination": "contamination", "c4": "lorem_ipsum"}


def without_repairs(kind: str) -> str:
    """Why nothing of this kind of text is repaired; empty where something is."""
    return "" if repairs_of(cast(Kind, kind)) else f"kind {kind}: no repairs"


def out_of_scope(step: Step, source: str, kind: str, language: str | None) -> str:
    """Why a step does not look at a document, such as 'not looked at (kinds web)'; empty where it does."""
    told = []
    for scope in _SCOPES:
        alone = replace(step, **{other: () for other in _SCOPES if other != scope})
        if not alone.looks_at(source, kind, language):
            told.append(f"{scope} {', '.join(getattr(step, scope))}")
    return f"not looked at ({'; '.join(told)})" if told else ""


def not_measured(step: Step, table: AnnotationTable, place: int) -> str:
    """Why a step that looks at a document can decide nothing: no limit, label or mark of it was measured there. Empty
    where one was; repeated texts are always looked for."""
    known = (
        step.duplicates
        or any(np.isfinite(table.measures[name][place]) for name in step.all_limits if name in table.measures)
        or any(label_of(table, name, place) is not None for name in step.labels)
        or any(_was_looked_for(glob, table, place) for glob in step.marks)
    )
    if known:
        return ""
    return f"{NOT_MEASURED} ({', '.join(step.labels)} unknown)" if step.labels else NOT_MEASURED


def _was_looked_for(glob: str, table: AnnotationTable, place: int) -> bool:
    if table.marks and any(fnmatchcase(mark.rule, glob) for mark in table.marks[place]):
        return True
    beginning = glob.split(".")[0]
    if beginning in _OF_KIND:
        return table.kinds[place] == _OF_KIND[beginning]
    name = _BESIDE.get(beginning)
    return name is None or (name in table.measures and bool(np.isfinite(table.measures[name][place])))
