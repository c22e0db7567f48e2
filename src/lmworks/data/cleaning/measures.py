"""Histograms in the report: the measures that a policy goes by, with its thresholds, of the documents it looks at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmworks.data.annotation_table import AnnotationTable
from lmworks.data.cleaning.drawing import measure_plot
from lmworks.data.cleaning.margins import looked_at
from lmworks.data.cleaning.policy import Limit, Policy, Step
from lmworks.report import Figure, Fold, Section

DRAWN = 6  # sources that one histogram tells apart
TAIL = 0.005  # of the values at each end are drawn at the end


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """One measure of the documents that one step looks at, and what its limit refuses of them."""

    step: str
    name: str
    limit: Limit
    values: np.ndarray
    sources: np.ndarray
    not_measured: int

    @property
    def beyond(self) -> int:
        low, high = self.limit.at_least, self.limit.at_most
        below = 0 if low is None else int((self.values < low).sum())
        return below + (0 if high is None else int((self.values > high).sum()))


def measures_section(policy: Policy, tables: Sequence[AnnotationTable]) -> Section:
    """A drawing for each limit, those that refuse most first; those that refuse nothing are folded."""
    found, absent = [], []
    for step in policy.steps:
        if step.all_limits:
            for measured in _measured(step, tables):
                (found if len(measured.values) else absent).append(measured)
    found.sort(key=lambda measured: -measured.beyond)
    active = [measured for measured in found if measured.beyond]
    idle = [measured for measured in found if not measured.beyond]
    text = "Every document that a step looks at, also one that an earlier step dropped." if found else ""
    if absent:
        names = ", ".join(f"{measured.name} ({measured.step})" for measured in absent)
        text += f" No document that the step looks at has a value of: {names}."
    folds = (Fold(f"{len(idle)} limits that refuse nothing", figures=tuple(map(_figure, idle))),) if idle else ()
    return Section(
        "Measures and thresholds", text.strip(), figures=tuple(map(_figure, active)), folds=folds, page_only=True
    )


def _measured(step: Step, tables: Sequence[AnnotationTable]) -> list[_Measured]:
    about = [looked_at(step, table) for table in tables]
    of_tables = [np.array(table.sources, object) for table in tables]
    sources = np.concatenate([of_table[mine] for of_table, mine in zip(of_tables, about, strict=True)])
    found = []
    for name, limit in step.all_limits.items():
        values = np.concatenate(
            [
                table.measures[name][mine] if name in table.measures else np.full(int(mine.sum()), np.nan)
                for table, mine in zip(tables, about, strict=True)
            ]
        )
        has = np.isfinite(values)
        found.append(_Measured(step.name, name, limit, values[has], sources[has], int((~has).sum())))
    return found


def _figure(measured: _Measured) -> Figure:
    values, limit = measured.values, measured.limit
    thresholds = [value for value in (limit.at_least, limit.at_most) if value is not None]
    low, high = np.quantile(values, [TAIL, 1 - TAIL])
    shown = np.clip(values, min([low, *thresholds]), max([high, *thresholds]))
    drawing = measure_plot(
        _groups(shown, measured.sources), x=measured.name, at_least=limit.at_least, at_most=limit.at_most
    )
    caption = f"{measured.step}: {measured.name}, {len(values):,} documents, of which {measured.beyond:,} lie beyond"
    if measured.not_measured:
        caption += f"; {measured.not_measured:,} have no value"
    if shown.min() > values.min() or shown.max() < values.max():
        caption += f"; the outermost {TAIL:.1%} are drawn at the ends"
    return Figure(drawing, caption)


def _groups(values: np.ndarray, sources: np.ndarray) -> dict[str, np.ndarray]:
    """By source where there are several; the largest for themselves, the others as one."""
    names, counts = np.unique(sources.astype(str), return_counts=True)
    largest = [str(names[place]) for place in np.lexsort((names, -counts))]
    if len(largest) == 1:
        return {largest[0]: values}
    groups = {name: values[sources == name] for name in largest[:DRAWN]}
    if len(largest) > DRAWN:
        groups[f"{len(largest) - DRAWN} others"] = values[~np.isin(sources, largest[:DRAWN])]
    return groups
