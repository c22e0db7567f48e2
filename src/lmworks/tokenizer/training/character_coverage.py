"""What `coverage` costs: characters of the texts that get no token, and what the tokenizer makes of them instead."""

from dataclasses import dataclass

import numpy as np

SHOWN = 10  # characters that are named


@dataclass(frozen=True, slots=True)
class Uncovered:
    """Characters that the alphabet has no place for.

    characters   how many different ones
    occurrences  of them in the texts
    share        of all characters of the texts, 0 to 1
    frequent     the most frequent ones, `SHOWN` at most, and how often the texts have each
    becomes      what a text with one of them gets: a sentence
    """

    characters: int = 0
    occurrences: int = 0
    share: float = 0.0
    frequent: tuple[tuple[str, int], ...] = ()
    becomes: str = ""

    @property
    def warning(self) -> str:
        """What a user is to be told, with the remedy; empty where every character has a token."""
        if not self.characters:
            return ""
        named = ", ".join(f"{_legible(character)} ({times:,})" for character, times in self.frequent)
        rest = self.characters - len(self.frequent)
        several = "character has" if self.characters == 1 else "different characters have"
        return (
            f"{self.characters:,} {several} no token, {100 * self.share:.2g} % of the texts: {named}"
            f"{f' and {rest:,} more' if rest else ''}. {self.becomes} Raise coverage (1 keeps every character) or give "
            "more text."
        )


def uncovered(points: np.ndarray, frequencies: np.ndarray, total: int) -> Uncovered:
    """Of code points that are left out, the most frequent first, and how often each occurs; `total` characters."""
    occurrences = int(frequencies.sum())
    frequent = zip(map(chr, points[:SHOWN].tolist()), frequencies[:SHOWN].tolist(), strict=True)
    return Uncovered(len(points), occurrences, occurrences / total if total else 0.0, tuple(frequent))


def _legible(character: str) -> str:
    return character if character.isprintable() and not character.isspace() else f"U+{ord(character):04X}"
