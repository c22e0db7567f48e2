"""What is found in a text, as the tests of the families compare it."""

from lmworks.corpus.taggers.pii.scan import find_personal_data


def finds(text: str, at_least: float = 0.5) -> list[tuple[str, str]]:
    """Rules without `pii.`, and what they found, in the order of the text."""
    marks = find_personal_data(text, at_least)
    return [(mark.rule.removeprefix("pii."), text[mark.start : mark.end]) for mark in marks]


def scores(text: str) -> dict[str, float]:
    """What was found at any score → its score."""
    return {text[mark.start : mark.end]: mark.score for mark in find_personal_data(text, 0.0)}
