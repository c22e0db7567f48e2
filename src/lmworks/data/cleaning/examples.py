"""Examples for the report: of every rule some documents that it dropped, cut, or nearly dropped."""

import hashlib
import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from lmworks.data.annotation_table import AnnotationTable

if TYPE_CHECKING:
    from lmworks.data.cleaning.writing import Life

SHOWN = 5  # of each rule and kind
EXCERPT = 600  # characters

How = Literal["dropped", "cut", "nearly dropped"]


@dataclass(frozen=True, slots=True)
class Example:
    """A document that shows a rule at work. `draw` is a hash: the lowest are shown, whatever the order of shards."""

    step: str
    rule: str
    how: How
    draw: str
    document: str
    value: float | None
    threshold: float | None
    before: str
    after: str = ""


class Examples:
    """The examples of one shard with the lowest hashes; merged, they are those of all."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], list[Example]] = defaultdict(list)

    def add(self, life: "Life", table: AnnotationTable, place: int) -> None:
        for entry in life.entries:
            if entry.verdict == "dropped":
                first = entry.first
                self._offer(entry.step, first.rule, "dropped", entry.document, first.value, first.threshold, life.repaired)
            elif entry.verdict == "cut":
                for rule in sorted({cut.rule for cut in entry.cuts}):
                    start, end = next((cut.start, cut.end) for cut in entry.cuts if cut.rule == rule)
                    around = life.repaired[max(0, start - EXCERPT // 4) : end + EXCERPT // 4]
                    self._offer(entry.step, rule, "cut", entry.document, None, None, around, life.repaired[start:end])

    def _offer(
        self,
        step: str,
        rule: str,
        how: How,
        document: str,
        value: float | None,
        threshold: float | None,
        before: str,
        after: str = "",
    ) -> None:
        draw = hashlib.sha256(f"{step}\0{rule}\0{how}\0{document}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
        example = Example(step, rule, how, draw, document, value, threshold, before[:EXCERPT], after[:EXCERPT])
        self._found[step, rule, how] = lowest([*self._found[step, rule, how], example])

    def rows(self) -> list[dict[str, object]]:
        return [asdict(example) for _, found in sorted(self._found.items()) for example in found]


def lowest(examples: Sequence[Example]) -> list[Example]:
    """Those of one rule that are shown."""
    return heapq.nsmallest(SHOWN, examples, key=lambda example: example.draw)
