"""Roofline of this machine, measured now: bandwidth of reading memory, and rate of multiplying.

Generating one token reads every weight once, so reading bounds it; a long prompt uses each weight many times, so
multiplying bounds it (the roofline model: Williams et al. 2009, section 3).
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import torch

from lmworks.kernels import library
from lmworks.kernels.library import Library
from lmworks.kernels.program import large_pages
from lmworks.kernels.weight_formats import FORMATS, Format

T = TypeVar("T")

_SECONDS = 0.5  # of each measurement: long enough to meet a moment in which nothing else runs
_LEAST_PASSES = 5
_READ_BYTES = 2**28  # unless the cache is larger still
_MIB = 2**20
_NUMBERS: dict[Format, str] = {  # that the products with weights of each format multiply
    "float32": "float32",
    "bfloat16": "bfloat16",
    "int8": "8-bit integers",
    "int4": "8-bit integers",
}
_ROWS, _INNER, _COLUMNS = 512, 1536, 2048  # of PyTorch's product: a long prompt times a matrix of a small model


@dataclass(frozen=True, slots=True)
class Limits:
    """The fastest of several passes.

    bandwidth     bytes of memory read per second.
    operations    per second of products, a multiplication and an addition being two, of the numbers that are multiplied
                  fastest here.
    numbers       which ones these are: nearly everywhere "8-bit integers".
    measured_by   "kernels", or "torch" where they were not compiled: then the limits are those of PyTorch's operations,
                  which a better one may exceed.
    method        with what, in words.
    """

    bandwidth: float
    operations: float
    numbers: str
    measured_by: Literal["kernels", "torch"]
    method: str


def higher(first: Limits, second: Limits) -> Limits:
    """The higher ones of two measurements in the same way: what else ran meanwhile can only have lowered them."""
    faster = max(first, second, key=lambda limits: limits.operations)
    return replace(faster, bandwidth=max(first.bandwidth, second.bandwidth))


def measure_limits(kernels: Library | None = None) -> Limits:
    """Some seconds of work on the threads that the kernels have, or torch where there are none; whatever else runs on
    the machine makes the limits look lower than they are. `kernels` are a library other than the default."""
    chosen = kernels or library.load()
    return _by_torch() if chosen is None else _by_kernels(chosen)


def _by_kernels(kernels: Library) -> Limits:
    size = _read_bytes()
    numbers = large_pages(size).view(torch.int32).fill_(1)  # pages that were never written are all one page of zeros
    reading, _ = _fastest(lambda: library.read_numbers(numbers, kernels))
    rates: dict[Format, float] = {}
    for format_ in FORMATS:
        multiplying, products = _fastest(lambda format_=format_: library.multiply_ones(format_, kernels))
        rates[format_] = 2 * products / multiplying
    fastest = max(rates, key=lambda format_: rates[format_])
    return Limits(
        bandwidth=size / reading,
        operations=rates[fastest],
        numbers=_NUMBERS[fastest],
        measured_by="kernels",
        method=(
            f"the {kernels.name} kernels on {_threads(kernels.threads)}: reading {size // _MIB:,} MiB, "
            f"and products of {_NUMBERS[fastest]} in registers"
        ),
    )


def _by_torch() -> Limits:
    size = _read_bytes()
    first, second = torch.ones(2, size // 8)
    left = torch.ones(_ROWS, _INNER, dtype=torch.int8)
    right = torch.ones(_INNER, _COLUMNS, dtype=torch.int8)
    reading, _ = _fastest(lambda: torch.dot(first, second))
    multiplying, _ = _fastest(lambda: torch._int_mm(left, right))  # pyright: ignore[reportPrivateImportUsage]
    return Limits(
        bandwidth=size / reading,
        operations=2 * _ROWS * _INNER * _COLUMNS / multiplying,
        numbers="8-bit integers",
        measured_by="torch",
        method=(
            f"PyTorch {torch.__version__} on {_threads(torch.get_num_threads())}, for want of compiled kernels: "
            f"the dot product of {size // _MIB:,} MiB, "
            f"and an int8 product ({_ROWS} × {_INNER}) · ({_INNER} × {_COLUMNS})"
        ),
    )


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"


def _read_bytes() -> int:
    """Several times what the largest cache of a processor holds, so that next to nothing is found there again."""
    try:
        cache = os.sysconf("SC_LEVEL3_CACHE_SIZE")  # bytes; of glibc
    except (AttributeError, ValueError, OSError):
        cache = 0
    return max(_READ_BYTES, 4 * cache)


def _fastest(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds of the fastest pass, and what `work` returns. The first pass, which also starts threads and touches
    memory, does not count."""
    result = work()
    seconds: list[float] = []
    while sum(seconds) < _SECONDS or len(seconds) < _LEAST_PASSES:
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds), result
