"""Progress of long work: the stage, how much is done, how fast, how much time is left.

On a terminal it is one moving line a stage, or two where it is narrow; elsewhere (a log, a pipe) it is a plain line
every ten seconds.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

INTERVAL = 10.0  # seconds between lines where nothing can be redrawn
MEASURED = 2.0  # seconds after which a rate says something
WIDE = 110  # columns in which a bar and the time have room next to the words


class Report(Protocol):
    """Called by a stage while it runs: `done` of `total` (None: nobody knows) things called `unit`.

    `kept` of the done ones were there from before (an interrupted run, an unchanged document): they took no time, and
    no rate counts them. `note` is what else there is to say, such as a loss; before this run has done anything
    (`done` is `kept`), it says how an earlier one is continued, and stays to be read.
    """

    def __call__(self, done: int, total: int | None, unit: str, kept: int = 0, note: str = "") -> None: ...


def no_report(done: int, total: int | None, unit: str, kept: int = 0, note: str = "") -> None:
    """A report that nobody reads."""


@contextmanager
def stage_progress(console: "Console", name: str) -> Iterator[Report]:
    """A function to call while the stage of this name runs."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    clock, last = _Clock(), time.monotonic()
    bar = (BarColumn(bar_width=24), TimeElapsedColumn()) if console.width >= WIDE else ()
    moving = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        *bar,
        TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=False)),
        console=console,
        transient=True,
    )
    task = moving.add_task(name, total=None, text="")

    def say(text: str) -> None:
        console.print(f"{name.strip()}: {text}", highlight=False, markup=False, soft_wrap=True)

    def report(done: int, total: int | None, unit: str, kept: int = 0, note: str = "") -> None:
        nonlocal last
        text = clock.describe(done, total, unit, kept)
        if note and done == kept:
            say(note)
        text = f"{text} · {note}" if note else text
        if console.is_terminal:
            moving.update(task, completed=done, total=total, text=text)
        elif time.monotonic() - last >= INTERVAL:
            last = time.monotonic()
            say(text)

    with moving if console.is_terminal else nullcontext():
        yield report


class _Clock:
    """Times what is made of one unit of work, from its first report; another unit is timed from its own
    beginning."""

    def __init__(self) -> None:
        self._unit = ""
        self._started = 0.0
        self._made = 0  # by this run, when the clock started

    def describe(self, done: int, total: int | None, unit: str, kept: int) -> str:
        """The part that is done, and as soon as they are known, the rate and the time left."""
        now = time.monotonic()
        if unit != self._unit:
            self._unit, self._started, self._made = unit, now, done - kept
        text = f"{done:,}{f' of {total:,}' if total else ''} {unit}{f' ({kept:,} from before)' if kept else ''}"
        made, seconds = done - kept - self._made, now - self._started
        if made <= 0 or seconds < MEASURED:
            return text
        left = f", about {readable_duration(seconds / made * (total - done))} left" if total else ""
        return f"{text}, {made / seconds:,.1f}/s{left}"


def readable_duration(seconds: float) -> str:
    """In seconds, minutes, hours or days, without a fraction."""
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 1.6 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
