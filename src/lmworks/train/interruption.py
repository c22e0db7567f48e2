"""SIGINT (Ctrl-C) and SIGTERM, taken between two steps: what was trained so far is saved first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """`signal` is the number of the signal that came, None as long as none did."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def raise_again(self, message: str) -> None:
        """KeyboardInterrupt with this message for a Ctrl-C; SystemExit with the usual status for a SIGTERM."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt(message)
        if self.signal is not None:
            raise SystemExit(128 + self.signal)


@contextmanager
def interruptions() -> Iterator[Interruption]:
    """Keeps the first signal for the block to read; a second one acts at once, as it would without this.

    Only the main thread may set handlers: in another one nothing is caught.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def keep(number: int, frame: FrameType | None) -> None:
        interruption.signal = number
        for other, handler in before.items():
            signal.signal(other, handler)

    for number in before:
        signal.signal(number, keep)
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
