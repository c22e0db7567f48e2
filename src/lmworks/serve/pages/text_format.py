"""Small readings and writings that several pages share."""

from pathlib import PurePosixPath


def file_name(uri: str) -> str:
    """The last part of a uri, which people know a document by."""
    return PurePosixPath(uri.split(":", 1)[-1].rstrip("/")).name or uri


def size(count: int) -> str:
    """Bytes: 812 B, 3.4 kB, 1.2 GB."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def whole_number(text: str | None, default: int, name: str, most: int = 10**9) -> int:
    """A number of a query string; ValueError that names it when it is none, or is larger than `most`."""
    if text is None or text == "":
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 12 or int(text) > most:
        raise ValueError(f"{name} is a whole number up to {most:,}, got {text[:40]!r}")
    return int(text)
