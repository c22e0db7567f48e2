"""The work that is timed as the machine's limits: all of it is done, by every library."""

import pytest
import torch

from lmworks.kernels import library
from lmworks.kernels.library import Library
from lmworks.kernels.weight_formats import FORMATS


@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 65_535, 65_536, 65_537, 300_001])
def test_every_number_is_read_once(kernels: Library, count: int) -> None:
    numbers = torch.randint(
        -(2**16), 2**16, (count,), dtype=torch.int32, generator=torch.Generator().manual_seed(count)
    )
    assert library.read_numbers(numbers, kernels) == numbers.sum(dtype=torch.int64)


def test_the_largest_numbers_do_not_overflow(kernels: Library) -> None:
    numbers = torch.full((3 * 65_536,), 2**16, dtype=torch.int32)
    assert library.read_numbers(numbers, kernels) == 3 * 2**32


def test_what_cannot_be_read_is_refused(kernels: Library) -> None:
    for wrong in (
        torch.ones(8),
        torch.ones(8, 8, dtype=torch.int32).T,
        torch.ones(8, dtype=torch.int32, device="meta"),
    ):
        with pytest.raises(ValueError, match="int32 numbers in memory"):
            library.read_numbers(wrong, kernels)


def test_every_product_counts_one_and_threads_share_nothing_twice(kernels: Library) -> None:
    # The numbers come out of the sums of products of ones: exact, although some are added up as float32.
    counts = {}
    for threads in (1, 2, 3):
        kernels.set_threads(threads)
        counts[threads] = [library.multiply_ones(format_, kernels) for format_ in FORMATS]
    lanes = 64 * 20_000 * 16  # items, steps, lanes of a vector
    float32, bfloat16, int8, int4 = counts[1]
    assert (bfloat16, int8, int4) == (2 * float32, 4 * float32, 4 * float32)  # numbers in the four bytes of a lane
    assert float32 % (2 * lanes) == 0 and float32 // (2 * lanes) in (2, 4, 6)  # rows of a tile, by two vectors
    assert counts[2] == [2 * count for count in counts[1]] and counts[3] == [3 * count for count in counts[1]]
