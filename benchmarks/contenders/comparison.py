"""What was measured, and how two contenders compare: medians, and ratios within a round."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lmworks.generate.benchmark import Spread, spread

Values = Mapping[str, Sequence[float]]  # for each column, one value per round


@dataclass
class Measurements:
    """`values[contender][column]` has one value per round, in the order of the rounds."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, contender: str, column: str, value: float) -> None:
        self.values.setdefault(contender, {}).setdefault(column, []).append(value)


def in_turns(names: Sequence[str], rounds: int) -> Iterator[tuple[int, list[str]]]:
    """Each round with the order in which contenders run in it, turned around every time: no one always comes first,
    and a machine that gets slower in a round harms everybody alike."""
    for round_ in range(rounds):
        yield round_, list(names if round_ % 2 == 0 else reversed(names))


def ratios(peer: Sequence[float], ours: Sequence[float]) -> Spread:
    """How many times as fast ours is, round by round; ValueError when one side lacks a round."""
    return spread([mine / theirs for theirs, mine in zip(peer, ours, strict=True)])


def table(values: Mapping[str, Values], pairs: Iterable[tuple[str, str]]) -> str:
    """For each (peer, ours) the medians of both, and the median ratio with the lowest and the highest."""
    pairs = list(pairs)
    columns = list(next(iter(values.values())))
    first = max(len(name) for name in ("  ratio", *values)) + 2
    widths = [max(len(column), len("×10.00 (10.00–10.00)")) + 3 for column in columns]
    lines = [_line("", columns, first, widths)]
    for peer, ours in pairs:
        for name in (peer, ours):
            cells = [f"{statistics.median(values[name][column]):,.0f}" for column in columns]
            lines.append(_line(name, cells, first, widths))
        compared = [ratios(values[peer][column], values[ours][column]) for column in columns]
        cells = [f"×{ratio.median:.2f} ({ratio.least:.2f}–{ratio.most:.2f})" for ratio in compared]
        lines += [_line("  ratio", cells, first, widths), ""]
    return "\n".join(lines)


def _line(name: str, cells: Sequence[str], first: int, widths: Sequence[int]) -> str:
    return f"{name:<{first}}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
