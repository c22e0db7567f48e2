"""How unlikely a text is under a language model: a filter that keeps what reads like the texts the model learned from.

The model is given as a function, since this package knows none: `NgramModel.score` of `ngram_model.py`, as Wenzek et
al. 2020 (CCNet) use an n-gram model of Wikipedia, or the log-probabilities of a neural model.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lmworks.corpus.attributes import Attributes
from lmworks.corpus.taggers.tagger import Text

# Texts -> for each the nats that it costs, -ln p(text), and its tokens. Nothing is known of what is before a text.
Score = Callable[[Sequence[str]], Sequence[tuple[float, int]]]

_MOST_NATS = 700.0  # a token: e^700 is near the largest float
_BATCH = 256  # windows that are scored at a time


@dataclass(frozen=True, slots=True)
class Perplexity:
    """An annotator of `perplexity`, e to the power of the nats for each token; absent for a text without tokens."""

    score: Score

    def __call__(self, text: Text) -> Attributes:
        (found,) = perplexities([text.text], self.score)
        return Attributes() if found is None else Attributes({"perplexity": found})


def perplexities(texts: Sequence[str], score: Score, window: int = 8_000) -> list[float | None]:
    """The perplexity of each text, None where it has no tokens; windows of several texts are scored in one call.

    window  Most characters that the model sees at a time. A longer text is cut into such windows behind a line or a
            word; the beginning of each is then scored without what is before it, so the perplexity of long texts is a
            little higher than it would be.

    ValueError where `score` gives something else than nats and tokens for each text that it is given.
    """
    if window < 1:
        raise ValueError(f"window must be 1 character at least, got {window}")
    pieces = [(number, piece) for number, text in enumerate(texts) for piece in windows(text, window)]
    nats, tokens = [0.0] * len(texts), [0] * len(texts)
    for start in range(0, len(pieces), _BATCH):
        batch = pieces[start : start + _BATCH]
        found = score([piece for _, piece in batch])
        if len(found) != len(batch):
            raise ValueError(f"the language model scored {len(found)} texts of {len(batch)}")
        for (number, _), (cost, count) in zip(batch, found, strict=True):
            if not 0 <= cost <= _MOST_NATS * count:
                raise ValueError(f"the language model gave {cost} nats to {count} tokens")
            nats[number] += cost
            tokens[number] += count
    return [math.exp(cost / count) if count else None for cost, count in zip(nats, tokens, strict=True)]


def windows(text: str, characters: int) -> Iterator[str]:
    """The text in pieces of at most so many characters, cut behind a newline, or else a space, in the second half of a
    piece, or else anywhere. Joined they are the text."""
    start = 0
    while len(text) - start > characters:
        half, limit = start + characters // 2, start + characters
        end = (text.rfind("\n", half, limit) + 1) or (text.rfind(" ", half, limit) + 1) or limit
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]
