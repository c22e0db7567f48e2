"""Span corruption (Raffel et al. 2020, sections 3.1.4 and 3.3.4): spans that are missing from a text are written down.

    text     Thank you for inviting me to your party last week .
    source   Thank you <X> me to your party <Y> week .
    target   <X> for inviting <Y> last </s>

The paper's figure ends the target with a third sentinel; its code has none, and the end of the text instead.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmworks.config import at_least
from lmworks.data.batches import Batch
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.train.objectives.sequence_to_sequence import Rewriting, Rewritings, rewritings, texts_of

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SpanCorruption(Rewriting):
    """`rate` of a text's tokens are missing, in spans of `mean_span` tokens on average; how many of both is exact, and
    where they are is random.

    sentinels  stand for the missing spans, the first for the first; `sentinels_of` finds T5's
    eos        ends source and target
    start      begins what the decoder reads; T5: its padding token, 0
    apart      whether each document of a row is a text of its own, as "pack" wants it; without, the row is one, as in
               T5's pre-training, for sequences that "concatenate" cuts from a stream

    Of texts with fewer than two tokens nothing can be missing: they make no example.
    """

    sentinels: tuple[int, ...]
    eos: int
    start: int = 0
    rate: float = 0.15
    mean_span: float = 3.0
    apart: bool = True
    label_smoothing: float = 0.0
    z_loss: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ValueError(f"rate, the share of tokens that are missing, lies between 0 and 1, got {self.rate:g}")
        at_least(1, mean_span=self.mean_span)
        if len(set(self.sentinels)) < len(self.sentinels) or self.eos in self.sentinels:
            raise ValueError("sentinels are tokens of their own, each another, and none ends a text")

    def examples(self, batch: Batch, seed: int) -> Rewritings:
        """ValueError for a text with more spans than there are sentinels."""
        texts = texts_of(batch, seed, self.apart, (self.eos,))
        pairs = [
            corrupt(ids, noise_mask(len(ids), self.rate, self.mean_span, generator), self.sentinels, self.eos)
            for ids, generator in texts
            if len(ids) > 1
        ]
        return rewritings(pairs, self.start)


def missing(length: int, rate: float, mean_span: float) -> tuple[int, int]:
    """The number of missing tokens of `length` > 1, and of the spans they are in: round(length · rate) and
    round(missing / mean_span), within what leaves a token missing and one before each span."""
    tokens = min(max(round(length * rate), 1), length - 1)
    return tokens, min(max(round(tokens / mean_span), 1), length - tokens)


def noise_mask(length: int, rate: float, mean_span: float, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Which tokens are missing, (length,) bool.

    What is there and what is missing are each cut into as many parts, all ways to do so being equally likely, and take
    turns; a text begins with what is there, and ends with what is missing.
    """
    tokens, spans = missing(length, rate, mean_span)
    lengths = np.empty(2 * spans, np.int64)
    lengths[0::2] = _cut(length - tokens, spans, generator)
    lengths[1::2] = _cut(tokens, spans, generator)
    return np.repeat(np.arange(2 * spans) % 2 == 1, lengths)


def _cut(total: int, pieces: int, generator: np.random.Generator) -> Ids:
    """Lengths of 1 or more that add up to `total`."""
    cuts = np.sort(generator.choice(total - 1, pieces - 1, replace=False)) + 1
    return np.diff(cuts, prepend=0, append=total)


def corrupt(ids: Ids, noise: NDArray[np.bool_], sentinels: tuple[int, ...], eos: int) -> tuple[Ids, Ids]:
    """Source and target of a text whose tokens are missing where `noise`, (n,) bool. ValueError for too many spans."""
    begins = noise & ~np.concatenate([[False], noise[:-1]])
    spans = int(begins.sum())
    if spans > len(sentinels):
        raise ValueError(
            f"a text of {len(ids)} tokens has {spans} spans and there are {len(sentinels)} sentinels: add some to the "
            "vocabulary, or give the loader a smaller length"
        )
    names = np.array(sentinels[:spans])
    source = ids.copy()
    source[begins] = names
    target = np.insert(ids[noise], np.flatnonzero(begins[noise]), names)
    return np.append(source[~noise | begins], eos), np.append(target, eos)


def sentinels_of(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The ids of `<extra_id_0>`, `<extra_id_1>`, … as T5 calls them. ValueError for a vocabulary without any."""
    numbered = {
        int(match[1]): index
        for token, index in tokenizer.backend.get_vocab(with_added_tokens=True).items()
        if (match := re.fullmatch(r"<extra_id_(\d+)>", token))
    }
    if not numbered:
        raise ValueError(
            "the vocabulary has no <extra_id_0>: add sentinels with `lmworks tokenizer extend`, or name others"
        )
    return tuple(numbered[number] for number in sorted(numbered))
