"""How fast this machine multiplies matrices at this moment: what two runs, one after the other, are compared under."""

import time

import torch

SIZE = 1024


def product_rate(seconds: float = 3.0, dtype: torch.dtype = torch.bfloat16) -> float:
    """Operations a second of square products on the threads that are set: the median over the time given."""
    left, right = (torch.randn(SIZE, SIZE).to(dtype) for _ in range(2))
    left @ right
    rates: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not rates:
        began = time.perf_counter()
        for _ in range(5):
            left @ right
        rates.append(5 * 2 * SIZE**3 / (time.perf_counter() - began))
    return sorted(rates)[len(rates) // 2]
