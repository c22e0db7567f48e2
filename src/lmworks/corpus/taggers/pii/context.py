"""What stands around a candidate: the words that say what a number is."""

from collections.abc import Sequence

Regions = Sequence[tuple[int, int]]  # half-open ranges of a text in which a family of patterns may begin

WIDTH = 40  # characters


def before(text: str, start: int, width: int = WIDTH) -> str:
    """Up to `width` characters in front of `start`, but none beyond a blank line or a bracket `<` or `>`.

    What was redacted stands in such brackets. Were it in sight, its length would decide how far one sees, and a text
    would be read otherwise after redaction.
    """
    window = text[max(0, start - width) : start]
    return window[max(window.rfind("<"), window.rfind(">"), window.rfind("\n\n")) + 1 :]
