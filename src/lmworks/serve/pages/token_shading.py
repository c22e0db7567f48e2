"""The tokens of a completion, each with how probable the model held it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SHADES = 10
LIMIT = 4096  # tokens shown; a page with more is of no use to a reader


@dataclass(frozen=True, slots=True)
class ShadedToken:
    """`shade` is the tenth that the probability lies in, 0 to 9."""

    text: str
    probability: float
    shade: int

    @property
    def shown(self) -> str:
        """The probability with two figures, however small."""
        return f"{self.probability:.2f}" if self.probability >= 0.1 else f"{self.probability:.2g}"


@dataclass(frozen=True, slots=True)
class ShadedText:
    """The first tokens of a completion; `left_out` counts those after. `perplexity` is that of all of them."""

    tokens: tuple[ShadedToken, ...]
    left_out: int
    perplexity: float
    least: ShadedToken


def shaded(
    ids: Sequence[int], log_probabilities: Sequence[float], decode: Callable[[Sequence[int]], str]
) -> ShadedText | None:
    """None when there are no tokens, or not one log-probability for each.

    `decode` turns ids into text; bytes of one character may be spread over several tokens, which show as U+FFFD.
    """
    if not ids or len(ids) != len(log_probabilities):
        return None
    tokens: list[ShadedToken] = []
    for one, log_probability in zip(ids[:LIMIT], log_probabilities[:LIMIT], strict=True):
        probability = min(1.0, math.exp(log_probability))
        shade = min(SHADES - 1, int(probability * SHADES))
        tokens.append(ShadedToken(decode([one]), probability, shade))
    mean = sum(log_probabilities) / len(log_probabilities)
    return ShadedText(
        tokens=tuple(tokens),
        left_out=len(ids) - len(tokens),
        perplexity=math.exp(min(700.0, -mean)),
        least=min(tokens, key=lambda token: token.probability),
    )
