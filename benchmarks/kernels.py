"""How near each kernel comes to what the machine can do: operations and bytes per second, and shares of the limits.

    python benchmarks/kernels.py [--library avx2] [--threads 2] [--rows 1 8 512] [--shape 3072x576 49152x576]

The limits, reading memory and multiplying in registers, are measured in the same run. A product with few rows of
activations should come near the first, one with many near the second; what fits the caches may pass the first.
"""

import argparse
import time
from collections.abc import Callable

import torch

from lmworks.generate.benchmark import Limits, measure_limits
from lmworks.kernels import fused_operations, library
from lmworks.kernels.library import Library
from lmworks.kernels.packing import pack_weight
from lmworks.kernels.weight_formats import FORMATS

HEAD = f"{'format':>9} {'matrix':>12} {'rows':>5} {'GB/s':>8} {'of limit':>9} {'GOP/s':>8} {'of limit':>9}"


def seconds(work: Callable[[], object], at_least: float = 0.2) -> float:
    """The fastest of many: what else runs on the machine can only make it slower."""
    work()
    times: list[float] = []
    while sum(times) < at_least or len(times) < 5:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def measure(kernels: Library, shapes: list[tuple[int, int]], counts: list[int], limits: Limits) -> None:
    for format_ in FORMATS:
        for rows, columns in shapes:
            matrix = pack_weight(torch.randn(rows, columns), format_)
            for count in counts:
                x = torch.randn(count, columns)
                taken = seconds(lambda x=x, matrix=matrix: fused_operations.linear(x, matrix, kernels))
                read, work = matrix.nbytes / taken, 2 * count * rows * columns / taken
                shape, shares = f"{rows}x{columns}", (read / limits.bandwidth, work / limits.operations)
                print(
                    f"{format_:>9} {shape:>12} {count:>5} {read / 1e9:>8.1f} {shares[0]:>9.0%} "
                    f"{work / 1e9:>8.0f} {shares[1]:>9.0%}"
                )


def shape_of(text: str) -> tuple[int, int]:
    rows, columns = text.split("x")
    return int(rows), int(columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", choices=library.NAMES, help="instead of the best one")
    parser.add_argument("--threads", type=int, help="instead of one for each core")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 512], help="of activations")
    parser.add_argument("--shape", type=shape_of, nargs="+", default=[(3072, 576), (576, 1536), (49152, 576)])
    options = parser.parse_args()
    kernels = library.load(options.library)
    if kernels is None:
        raise SystemExit("there are no compiled kernels here: install a C++ compiler, and then lmworks again")
    kernels.set_threads(options.threads or kernels.threads)
    torch.set_num_threads(kernels.threads)
    limits = measure_limits(kernels)
    assert limits is not None
    print(f"{kernels.name}, {kernels.threads} threads; limits by {limits.method}:")
    print(f"reading {limits.bandwidth / 1e9:.1f} GB/s, multiplying {limits.operations / 1e9:.0f} GOP/s\n\n{HEAD}")
    measure(kernels, options.shape, options.rows, limits)


if __name__ == "__main__":
    main()
