"""Timer of the phases of an answer, which follow each other without a gap; a listener hears of each as it begins."""

import time
from collections.abc import Callable

Listener = Callable[[str], None]


class Phases:
    """`begin` ends the phase before. `seconds` holds the finished ones in order; `end` adds their `total`."""

    def __init__(self, listener: Listener | None = None, *, queued: float | None = None) -> None:
        self.seconds: dict[str, float] = {} if queued is None else {"queued": queued}
        self._listener = listener
        self._current = ""
        self._began = time.perf_counter()

    def begin(self, name: str) -> None:
        """The phase `name` begins now; a phase that comes again continues counting."""
        self._close()
        self._current = name
        if self._listener is not None:
            self._listener(name)

    def end(self) -> dict[str, float]:
        """All phases and their sum under "total", in seconds."""
        self._close()
        self._current = ""
        return {**self.seconds, "total": sum(self.seconds.values())}

    def _close(self) -> None:
        now = time.perf_counter()
        if self._current:
            self.seconds[self._current] = self.seconds.get(self._current, 0.0) + now - self._began
        self._began = now
