"""What this machine can do at most, measured now: reading memory, and multiplying small integers.

Generating one token reads every weight once, so reading bounds it; a long prompt uses each weight many times, so
multiplying bounds it (the roofline model: Williams et al. 2009, section 3).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

_PASSES = 12
_READ_BYTES = 2**28  # far more than any cache of a processor holds, like the weights of most models
_ROWS, _INNER, _COLUMNS = 512, 1536, 2048  # a long prompt times a matrix of a small model


@dataclass(frozen=True, slots=True)
class Limits:
    """The fastest of several passes, on the threads that torch has.

    bandwidth   bytes of memory read per second.
    int8        operations per second of 8-bit matrix products; a multiplication and an addition are two.
    method      with what both were measured.
    """

    bandwidth: float
    int8: float
    method: str


def measure_limits() -> Limits:
    """About a second of work; whatever else runs on the machine makes the limits look lower than they are."""
    stored = torch.zeros(_READ_BYTES, dtype=torch.int8)
    left = torch.ones(_ROWS, _INNER, dtype=torch.int8)
    right = torch.ones(_INNER, _COLUMNS, dtype=torch.int8)
    seconds_reading = _fastest(stored.amax)
    seconds_multiplying = _fastest(lambda: torch._int_mm(left, right))  # pyright: ignore[reportPrivateImportUsage]
    return Limits(
        bandwidth=_READ_BYTES / seconds_reading,
        int8=2 * _ROWS * _INNER * _COLUMNS / seconds_multiplying,
        method=(
            f"PyTorch {torch.__version__} on {torch.get_num_threads()} threads: the maximum of {_READ_BYTES >> 20} "
            f"MiB, and an int8 product ({_ROWS} × {_INNER}) · ({_INNER} × {_COLUMNS})"
        ),
    )


def _fastest(work: Callable[[], object]) -> float:
    """Seconds of the fastest pass; the first one, which also starts threads and touches memory, does not count."""
    work()
    seconds = []
    for _ in range(_PASSES):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
