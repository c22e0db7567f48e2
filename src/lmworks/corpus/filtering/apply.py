"""What is cut from one text by the steps of a policy, one after another, and what that leaves."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from lmworks.corpus.filtering.decide import Cut
from lmworks.records import Edit


@dataclass(frozen=True, slots=True)
class Applied:
    """Of each step what it takes, clipped to what earlier steps left; ranges of the repaired text, sorted."""

    by_step: tuple[tuple[Cut, ...], ...]

    @property
    def edits(self) -> list[Edit]:
        """All of them as edits of the repaired text, which never overlap."""
        cuts = sorted((cut for step in self.by_step for cut in step), key=lambda cut: (cut.start, cut.end))
        return [Edit(cut.start, cut.end, cut.replacement, cut.rule) for cut in cuts]


def apply_steps(by_step: Sequence[Sequence[Cut]]) -> Applied:
    """Later steps get what earlier ones leave. A range that is redacted and partly gone already loses its rest without
    a replacement: half a number is no less personal. Ranges of no characters, and cuts inside of gone ranges, vanish.
    """
    taken = _Ranges()
    applied = []
    for cuts in by_step:
        mine: list[Cut] = []
        for cut in sorted(set(cuts), key=lambda cut: (cut.start, -cut.end, cut.rule)):
            free = taken.take(cut.start, cut.end)
            whole = free == [(cut.start, cut.end)]
            mine += [Cut(start, end, cut.replacement if whole else "", cut.rule) for start, end in free]
        applied.append(tuple(sorted(mine, key=lambda cut: cut.start)))
    return Applied(tuple(applied))


class _Ranges:
    """Disjoint half-open ranges of numbers, sorted."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def take(self, start: int, end: int) -> list[tuple[int, int]]:
        """Add a range; what of it was not there before."""
        first = bisect_right(self._ends, start)  # the first range that ends behind `start`
        last = bisect_left(self._starts, end)  # one past the last that begins before `end`
        free = []
        position = start
        for low, high in zip(self._starts[first:last], self._ends[first:last], strict=True):
            if position < low:
                free.append((position, low))
            position = max(position, high)
        if position < end:
            free.append((position, end))
        if start < end:
            low = min([start, *self._starts[first:last]])
            high = max([end, *self._ends[first:last]])
            self._starts[first:last] = [low]
            self._ends[first:last] = [high]
        return free
