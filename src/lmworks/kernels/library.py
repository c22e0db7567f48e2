"""Which compiled library this machine runs. For now: none, and the reference runs."""

from functools import cache
from typing import Any


@cache
def load() -> Any | None:
    return None


def set_threads(count: int) -> None:
    """How many threads the kernels use."""
