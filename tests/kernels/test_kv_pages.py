"""The memory of the cache: what is written is read, wherever the pages lie."""

import pytest
import torch

from kit.tables import for_each
from lmworks.kernels.kv_pages import (
    CACHE_FORMATS,
    PAGE,
    CacheFormat,
    allocate,
    read,
    write,
)

# Of numbers up to about 4: float32 is exact, bfloat16 keeps 8 bits, int8 rounds to 127 steps of the largest.
TOLERANCE = {"float32": 0.0, "bfloat16": 4 * 2**-9, "int8": 5 / 127 / 2}


def tokens(length: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    key, value = torch.randn(2, 3, length, 32, generator=generator).clamp(-4, 4)
    return key, value


@for_each("format_", CACHE_FORMATS)
def test_what_is_written_is_read(format_: CacheFormat) -> None:
    kv_pages, table = allocate(6, 3, 32, format_), [4, 1, 5]
    key, value = tokens(37)
    write(kv_pages, table, 0, key[:, :20], value[:, :20])
    write(kv_pages, table, 20, key[:, 20:], value[:, 20:])
    for got, expected in zip(read(kv_pages, table, 37), (key, value), strict=True):
        assert (got - expected).abs().max() <= TOLERANCE[format_]
    assert not kv_pages.data[[0, 2, 3]].any()


def test_dropped_pages_are_zeros() -> None:
    kv_pages = allocate(2, 3, 32, "int8")
    write(kv_pages, [1, 0], 0, *tokens(2 * PAGE))
    key, value = read(kv_pages, [-1, 0], 2 * PAGE)
    assert not key[:, :PAGE].any() and not value[:, :PAGE].any() and key[:, PAGE:].any()


@for_each("format_", CACHE_FORMATS)
def test_size_in_memory(format_: CacheFormat) -> None:
    token_and_head = {"float32": 32 * 4, "bfloat16": 32 * 2, "int8": 32 + 4}[format_]  # int8 with a float32 scale
    assert allocate(5, 3, 32, format_).data.nbytes == 5 * PAGE * 2 * 3 * token_and_head


def test_what_the_layout_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        allocate(1, 1, 24, "float32")
    with pytest.raises(ValueError, match="float32, bfloat16, int8"):
        allocate(1, 1, 16, "float16")  # type: ignore[arg-type]
