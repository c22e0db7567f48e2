"""Rotary positions against complex multiplication, and their defining property."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from lmworks.model.config import Rope
from lmworks.model.positions import rotate, rotation

ROPE, HEAD_DIM = Rope(10_000.0), 16


def rotated(vector: torch.Tensor, position: int) -> torch.Tensor:
    turn = rotation(ROPE, HEAD_DIM, torch.tensor([[position]]), torch.float64)
    return rotate(vector.view(1, 1, 1, HEAD_DIM), turn).flatten()


def test_is_multiplication_by_a_unit_complex_number():
    vector = torch.randn(HEAD_DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    planes = torch.complex(vector[: HEAD_DIM // 2], vector[HEAD_DIM // 2 :])
    angles = 7 * 10_000.0 ** (-torch.arange(0, HEAD_DIM, 2, dtype=torch.float64) / HEAD_DIM)
    expected = planes * torch.polar(torch.ones_like(angles), angles)
    # Angles are float32, so they carry a relative error of 6e-8.
    torch.testing.assert_close(rotated(vector, 7), torch.cat((expected.real, expected.imag)), atol=1e-5, rtol=0)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500), st.integers(0, 2**31))
def test_products_depend_on_distance_alone(query_at, key_at, shift, seed):
    generator = torch.Generator().manual_seed(seed)
    query, key = torch.randn(2, HEAD_DIM, dtype=torch.float64, generator=generator)
    here = rotated(query, query_at) @ rotated(key, key_at)
    there = rotated(query, query_at + shift) @ rotated(key, key_at + shift)
    # A float32 angle of up to 1000 is off by up to 3e-5, times the length of both vectors (about 4 each).
    torch.testing.assert_close(here, there, atol=5e-3, rtol=0)


def test_angles_do_not_lose_positions_in_low_precision():
    """Position 257 does not exist in bfloat16: it would be rotated like 256."""
    first, second = (rotation(ROPE, HEAD_DIM, torch.tensor([[p]]), torch.bfloat16)[1] for p in (256, 257))
    assert not torch.equal(first, second)
    assert first.dtype == torch.bfloat16
