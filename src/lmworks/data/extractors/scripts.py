"""Raised and lowered characters in plain text: x² and H₂O, where `x2` would mean something else."""

_SUPERSCRIPTS = str.maketrans("0123456789+-−=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿ")
_SUBSCRIPTS = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")
_LONGEST = 20


def raised(text: str) -> str:
    """The characters as superscripts; the text as it is when one of them has none in Unicode."""
    return _translated(text, _SUPERSCRIPTS)


def lowered(text: str) -> str:
    """The characters as subscripts; the text as it is when one of them has none in Unicode."""
    return _translated(text, _SUBSCRIPTS)


def _translated(text: str, table: dict[int, int]) -> str:
    if len(text) > _LONGEST or not all(ord(character) in table for character in text):
        return text
    return text.translate(table)
