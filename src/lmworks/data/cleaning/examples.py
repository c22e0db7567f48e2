"""Examples for the report: of every rule some documents that it dropped, cut, or nearly dropped or cut.

Which ones is decided by hashes of their names, of near misses by how near they are, so that the same are shown
whatever the shards and whoever does the work.
"""

import hashlib
from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from lmworks.config import from_mapping
from lmworks.data.annotation_table import AnnotationTable
from lmworks.data.cleaning.ledger import Entry
from lmworks.data.cleaning.life import Life
from lmworks.data.cleaning.local import Cut
from lmworks.data.cleaning.margins import looked_at, margins_of
from lmworks.data.cleaning.policy import Step
from lmworks.excerpts import Piece, Place, marked, window

SHOWN = 5  # of each rule and kind
NEAR = 0.25  # of the scale of a threshold (`margins.py`): documents that are so close to it were nearly dropped
EXCERPT, CONTEXT = 600, 160  # characters: of a beginning, and on both sides of a place

How = Literal["dropped", "cut", "nearly dropped", "nearly cut"]


@dataclass(frozen=True, slots=True)
class Example:
    """A document that shows a rule at work. The lowest by `distance` (from the threshold, of near misses), then by
    `draw`, a hash, are shown."""

    step: str
    rule: str
    how: How
    document: str
    draw: str
    pieces: tuple[Piece, ...]
    value: float | None = None
    threshold: float | None = None
    label: str | None = None
    twin: str | None = None
    distance: float = 0.0

    @property
    def rank(self) -> tuple[float, str, str]:
        return self.distance, self.draw, self.document

    @property
    def group(self) -> tuple[str, str, str, float]:
        """Those among which it is drawn. A rule with two thresholds has near misses of both."""
        near = self.how == "nearly dropped" and self.threshold is not None
        return self.step, self.rule, self.how, self.threshold if near and self.threshold is not None else 0.0


class Drawn:
    """The examples of each group with the lowest ranks among all that were offered."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str, float], list[Example]] = {}

    def offer(self, example: Example) -> None:
        found = self._found.setdefault(example.group, [])
        insort(found, example, key=lambda each: each.rank)
        del found[SHOWN:]

    def worst(self, group: tuple[str, str, str, float]) -> tuple[float, str]:
        """What an example has to be below to be shown."""
        found = self._found.get(group, [])
        return (found[-1].distance, found[-1].draw) if len(found) == SHOWN else (float("inf"), "")

    def __iter__(self) -> Iterator[Example]:
        for _, found in sorted(self._found.items()):
            yield from found

    def rows(self) -> list[dict[str, object]]:
        return [asdict(example) for example in self]

    def add_rows(self, rows: Iterable[dict[str, object]]) -> None:
        for row in rows:
            self.offer(from_mapping(Example, row))


class Examples:
    """The examples among the documents of one shard."""

    def __init__(self, steps: Sequence[Step], table: AnnotationTable) -> None:
        self.drawn = Drawn()
        self._table = table
        self._margins = margins_of(steps, table)
        uncertain = [step for step in steps if any(found.at_least > 0 for found in step.marks.values())]
        self._uncertain = [(step, looked_at(step, table)) for step in uncertain]

    def add(self, life: Life, place: int) -> None:
        for number, entry in enumerate(life.entries):
            if entry.verdict == "dropped":
                self._add_dropped(entry, life.repaired, place)
            elif entry.verdict == "cut":
                text = life.repaired if number else life.extracted  # the first step is the repair
                self._add_cut(entry, text, life.entries[1:number])
        if life.cleaned is not None:
            self._add_nearly_dropped(life, place)
            self._add_nearly_cut(life, place)

    def _add_dropped(self, entry: Entry, text: str, place: int) -> None:
        """Around what the rule found in the text, if it found a place, else from the beginning."""
        first = entry.first
        found = [mark for mark in (self._table.marks[place] if self._table.marks else ()) if mark.rule == first.rule]
        label = first.label
        if first.rule == "contamination" and "evaluation_item" in self._table.labels:
            label = self._table.labels["evaluation_item"][place]
        if found:
            places = [Place(mark.start, mark.end, change="marked") for mark in found]
            pieces = marked(text, places, *window(found[0].start, found[0].end, CONTEXT, EXCERPT), EXCERPT)
        else:
            pieces = marked(text, (), 0, EXCERPT)
        draw = _draw(entry.step, first.rule, "dropped", entry.document)
        self.drawn.offer(
            Example(
                entry.step, first.rule, "dropped", entry.document, draw, pieces,
                first.value, first.threshold, label, first.twin,
            )
        )  # fmt: skip

    def _add_cut(self, entry: Entry, text: str, earlier: Sequence[Entry]) -> None:
        """One place of each rule, with what else was cut around it."""
        by_rule: dict[str, list[Cut]] = {}
        for cut in entry.cuts:
            by_rule.setdefault(cut.rule, []).append(cut)
        for rule, cuts in by_rule.items():
            draw = _draw(entry.step, rule, "cut", entry.document)
            if (0.0, draw) >= self.drawn.worst((entry.step, rule, "cut", 0.0)):
                continue
            chosen = cuts[int(draw, 16) % len(cuts)]
            others = [cut for before in earlier for cut in before.cuts]
            pieces = cut_passage(text, [*entry.cuts, *others], chosen, rule)
            self.drawn.offer(Example(entry.step, rule, "cut", entry.document, draw, pieces))

    def _add_nearly_dropped(self, life: Life, place: int) -> None:
        for margins in self._margins:
            distance = float(margins.distance[place])
            group = (margins.step, margins.rule, "nearly dropped", margins.threshold)
            # Neither where it is NaN. With a threshold of 0 all that stay are at it, and none is near.
            if not distance <= min(self.drawn.worst(group)[0], NEAR * margins.scale) or not margins.scale:
                continue
            document = life.entries[0].document
            draw = _draw(margins.step, margins.rule, "nearly dropped", document)
            pieces = marked(life.repaired, (), 0, EXCERPT)
            self.drawn.offer(
                Example(
                    margins.step, margins.rule, "nearly dropped", document, draw, pieces,
                    float(margins.values[place]), margins.threshold, distance=distance,
                )
            )  # fmt: skip

    def _add_nearly_cut(self, life: Life, place: int) -> None:
        """Marks that a policy leaves, since they are not sure enough."""
        for step, about in self._uncertain:
            for mark in self._table.marks[place] if about[place] else ():
                found = step.on_mark(mark.rule)
                if found is None or mark.score >= found.at_least:
                    continue
                distance = found.at_least - mark.score
                if distance > self.drawn.worst((step.name, mark.rule, "nearly cut", 0.0))[0]:
                    continue
                document = life.entries[0].document
                draw = _draw(step.name, mark.rule, "nearly cut", f"{document}\0{mark.start}")
                at = Place(mark.start, mark.end, change="marked")
                pieces = marked(life.repaired, [at], *window(mark.start, mark.end, CONTEXT, EXCERPT))
                self.drawn.offer(
                    Example(
                        step.name, mark.rule, "nearly cut", document, draw, pieces,
                        mark.score, found.at_least, distance=distance,
                    )
                )  # fmt: skip


def cut_passage(
    text: str, cuts: Iterable[Cut], chosen: Cut, rule: str, context: int = CONTEXT, most: int = EXCERPT
) -> tuple[Piece, ...]:
    """The text around a cut: what this rule took, and, told apart, what others did."""
    places = [Place(cut.start, cut.end, cut.replacement, "removed" if cut.rule == rule else "other") for cut in cuts]
    return marked(text, places, *window(chosen.start, chosen.end, context, most))


def _draw(step: str, rule: str, how: str, document: str) -> str:
    return hashlib.sha256(f"{step}\0{rule}\0{how}\0{document}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
