"""Where the time of one interaction went: its phases as bars that follow each other."""

from collections.abc import Mapping
from dataclasses import dataclass

TOTAL = "total"
REST = "other"  # what no phase accounts for

_MEANING = {
    "queued": "waiting for a free slot",
    "prefill": "reading the prompt",
    "decode": "writing the answer",
    "search": "finding passages",
    "measure": "measuring candidate sentences",
    "draft": "drafting sentences with the language model",
    "decide": "choosing citations, or abstaining",
    REST: "not accounted for by a phase",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One phase: seconds, and its place as percentages of the whole."""

    name: str
    meaning: str
    seconds: float
    left: float
    width: float


@dataclass(frozen=True, slots=True)
class Waterfall:
    bars: tuple[Bar, ...]
    total: float

    @property
    def slowest(self) -> Bar | None:
        return max(self.bars, key=lambda bar: bar.seconds, default=None)


def waterfall(timings: Mapping[str, float]) -> Waterfall:
    """Bars in the order of the phases; their seconds sum to `total`.

    `timings` are seconds by phase, then "total". A total larger than the sum of the phases gives a last bar "other";
    one that is missing or smaller (clocks are read one after the other) is replaced by the sum.
    """
    phases = {name: max(0.0, seconds) for name, seconds in timings.items() if name != TOTAL}
    spent = sum(phases.values())
    total = max(timings.get(TOTAL, 0.0), spent)
    if total - spent > 1e-3 * total:
        phases[REST] = phases.get(REST, 0.0) + total - spent
    bars: list[Bar] = []
    begin = 0.0
    for name, seconds in phases.items():
        left, width = (100 * (begin / total), 100 * (seconds / total)) if total else (0.0, 0.0)
        bars.append(Bar(name, _MEANING.get(name, ""), seconds, left, width))
        begin += seconds
    return Waterfall(tuple(bars), total)
