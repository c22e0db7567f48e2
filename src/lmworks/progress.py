"""Progress of long work: the stage, how much is done, how fast, how much time is left.

On a terminal it is one moving line a stage; elsewhere (a log, a pipe) it is a plain line every ten seconds.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

from collections.abc import Callable

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
    started = time.monotonic()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(f"{name:<12}", total=None, amount="")

        def report(done: int, total: int | None, unit: str) -> None:
            progress.update(task, completed=done, total=total, amount=_amount(done, total, unit, started))

        yield report


def _lines(console: "Console", name: str) -> Report:
    started = last = time.monotonic()

    def report(done: int, total: int | None, unit: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < INTERVAL:
            return
        last = now
        left = f", about {(now - started) / done * (total - done):.0f} s left" if total and done else ""
        console.print(f"{name}: {_amount(done, total, unit, started)}{left}", highlight=False)

    return report


def _amount(done: int, total: int | None, unit: str, started: float) -> str:
    rate = done / max(time.monotonic() - started, 1e-6)
    return f"{done:,}{f' of {total:,}' if total else ''} {unit}, {rate:,.1f}/s"
