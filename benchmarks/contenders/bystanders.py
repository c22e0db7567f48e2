"""What else computes on the machine while a benchmark runs. It takes processors away, and from each contender unevenly:
threads that wait for each other by spinning lose far more than their share."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")  # of /proc, in a second
_IDLE = (3, 4)  # columns of /proc/stat: idle, and waiting for a disk


class Watch:
    """From now on. `processes` are the benchmark's own, besides this one; they must live until `share`."""

    def __init__(self, processes: Sequence[int]) -> None:
        self._processes = [*processes, os.getpid()]
        self._began = time.perf_counter(), self._elsewhere()

    def share(self) -> float:
        """The part of all processors that other processes took, in [0, 1]."""
        began, elsewhere = self._began
        seconds = (time.perf_counter() - began) * (os.cpu_count() or 1)
        return min(1.0, max(0.0, (self._elsewhere() - elsewhere) / seconds))

    def _elsewhere(self) -> float:
        """Seconds of processors since the machine began, without those of our own processes."""
        columns = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        busy = sum(value for column, value in enumerate(columns) if column not in _IDLE)
        return busy / _TICK - sum(_seconds(process) for process in self._processes)


def _seconds(process: int) -> float:
    """Of processors that a process and its threads took."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK  # in its own code, and in the system for it
