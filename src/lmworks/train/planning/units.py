"""Numbers as people write them: 7B, 1.4T, 3 h, 12 GiB. Free of torch."""


def short(value: float) -> str:
    """Three digits: 6.74B, 1.40T, 512, or 3.20e+20 where there is no letter for it."""
    for letter, factor in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if factor <= value < 1000 * factor:
            return f"{_three_digits(value / factor)}{letter}"
    return f"{value:.3g}" if value < 1e3 else f"{value:.2e}"


def readable_bytes(size: float) -> str:
    """In GiB, MiB or KiB."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{_three_digits(size / factor)} {unit}"
    return f"{size:.0f} bytes"


def readable_hours(hours: float) -> str:
    """In days, hours, minutes or seconds."""
    for unit, factor in (("years", 365.25 * 24), ("days", 24.0), ("hours", 1.0), ("minutes", 1 / 60)):
        if hours >= 2 * factor:
            return f"{_three_digits(hours / factor)} {unit}"
    return f"{_three_digits(hours * 3600)} seconds"


def _three_digits(value: float) -> str:
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"
