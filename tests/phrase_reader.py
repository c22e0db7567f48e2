"""Cross-encoders without a model: a passage answers by the phrases that stand in it."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from lmworks.generate.cross_encoder import AnswerSpan, best_span


class PhraseReader:
    """The log-odds of a span are those that its phrase is given, -9 for any other; a passage's logit is its best."""

    def __init__(self, log_odds: Mapping[str, float]) -> None:
        self.log_odds = log_odds
        self.passages: list[str] = []  # that were read, one below the other

    def read(self, question: str, passages: Sequence[str]) -> list[AnswerSpan]:
        self.passages += passages
        return [self._span(passage) for passage in passages]

    def relevance(self, question: str, passages: Sequence[str]) -> np.ndarray:
        return np.array([self._span(passage).log_odds for passage in passages])

    def _span(self, passage: str) -> AnswerSpan:
        offsets = np.array([found.span() for found in re.finditer(r"\w+|[^\w\s]", passage)])
        starts, ends = np.full((2, len(offsets)), -4.5)
        for phrase, value in self.log_odds.items():
            for found in re.finditer(re.escape(phrase), passage):
                starts[offsets[:, 0] == found.start()] = ends[offsets[:, 1] == found.end()] = value / 2
        return best_span(offsets, starts, ends, 0, len(offsets))
