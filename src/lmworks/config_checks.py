"""Checks of a config's numbers: each refuses those out of bounds, by their names, with a ValueError."""

import math


def within(lowest: float, highest: float, **values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not lowest <= value <= highest:
            raise ValueError(f"{name} must lie between {lowest:,} and {highest:,}, got {value!r}")


def positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} must be above 0, got {value:g}")


def below_one(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be 0 or more and below 1, got {value:g}")
