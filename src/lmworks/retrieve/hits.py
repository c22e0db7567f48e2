"""Hits of a question: chunks of an index in an order, each with the scores that it was given on the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hits:
    """A ranking, best first: keys of chunks in the index, and for each the scores of the steps that it went through."""

    keys: tuple[int, ...] = ()
    scores: tuple[Mapping[str, float], ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, positions: Sequence[int]) -> "Hits":
        """The hits at these positions, in this order."""
        return Hits(tuple(self.keys[p] for p in positions), tuple(self.scores[p] for p in positions))


def ranking(name: str, keys: Sequence[int], scores: Sequence[float]) -> Hits:
    """The hits of one retriever, best first: its score `name`, and `name_rank` from 1."""
    named = ({name: score, f"{name}_rank": float(rank)} for rank, score in enumerate(scores, start=1))
    return Hits(tuple(keys), tuple(named))
