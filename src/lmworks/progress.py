"""Progress of long work: the stage, how much is done, how fast, how much time is left.

On a terminal it is one moving line a stage; elsewhere (a log, a pipe) it is a plain line every ten seconds.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

Report = Callable[[int, int | None, str], None]  # (done, total or None, unit)
INTERVAL = 10.0  # seconds between lines where nothing can be redrawn


@contextmanager
def stage_progress(console: "Console", name: str) -> Iterator[Report]:
    """A function to call with (done, total, unit) while the stage runs."""
    if console.is_terminal:
        with _live(console, name) as report:
            yield report
    else:
        yield _lines(console, name)


@contextmanager
def _live(console: "Console", name: str) -> Iterator[Report]:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    clock = _Clock()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(f"{name:<12}", total=None, amount="")

        def report(done: int, total: int | None, unit: str) -> None:
            if clock.restarted(unit):
                progress.reset(task, total=total)
            progress.update(task, completed=done, total=total, amount=clock.amount(done, total, unit))

        yield report


def _lines(console: "Console", name: str) -> Report:
    clock = _Clock()
    last = time.monotonic()

    def report(done: int, total: int | None, unit: str) -> None:
        nonlocal last
        clock.restarted(unit)
        if time.monotonic() - last < INTERVAL:
            return
        last = time.monotonic()
        left = f", about {clock.seconds() / done * (total - done):.0f} s left" if total and done else ""
        console.print(f"{name}: {clock.amount(done, total, unit)}{left}", highlight=False)

    return report


class _Clock:
    """Times one unit of work; another unit (first questions, then drafts) is timed from its own beginning."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.unit = ""

    def restarted(self, unit: str) -> bool:
        """Whether this is another unit than before; then the clock starts anew."""
        if unit == self.unit:
            return False
        if self.unit:
            self.started = time.monotonic()
        self.unit = unit
        return True

    def seconds(self) -> float:
        return max(time.monotonic() - self.started, 1e-6)

    def amount(self, done: int, total: int | None, unit: str) -> str:
        return f"{done:,}{f' of {total:,}' if total else ''} {unit}, {done / self.seconds():,.1f}/s"
