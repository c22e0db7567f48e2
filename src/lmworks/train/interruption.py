"""SIGINT (Ctrl-C) and SIGTERM, taken between two steps: what was trained so far is saved first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """`signal` is what came, None as long as nothing did."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def raise_again(self, told: str) -> None:
        """KeyboardInterrupt, which says what is told, for a Ctrl-C; SystemExit with the usual status for a SIGTERM."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt(told)
        if self.signal is not None:
            raise SystemExit(128 + self.signal)


@contextmanager
def interruptions() -> Iterator[Interruption]:
    """Keeps the first signal for the block to look at; a second one acts at once, as it would without this.

    Only the main thread may set handlers: in another one nothing is caught.
    """
    found = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def keep(number: int, frame: FrameType | None) -> None:
        found.signal = number
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, keep)
    try:
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
