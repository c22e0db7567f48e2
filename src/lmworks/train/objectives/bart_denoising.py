"""BART's denoising (Lewis et al. 2020, section 2.2): a whole text, from one with its sentences in another order and
spans of it hidden, the noise that BART takes (section 5)."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmworks.config import positive
from lmworks.data.batches import Batch
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.train.objectives.sequence_to_sequence import Rewriting, Rewritings, rewritings, texts_of

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TextInfilling:
    """ceil(rate · n) tokens are hidden in spans, each behind one mask, so that the model must find how many it hides.

    Lengths are Poisson with `mean_span` until there are enough, the last one shortened to the number. A span of length
    0 is a mask where nothing is missing. All orders of spans and tokens left are equally likely. BART: 0.3 and 3.
    """

    rate: float = 0.3
    mean_span: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ValueError(f"rate, the share of tokens that are hidden, lies between 0 and 1, got {self.rate:g}")
        positive(mean_span=self.mean_span)

    def __call__(self, ids: Ids, mask: int, generator: np.random.Generator) -> Ids:
        hidden = math.ceil(self.rate * len(ids))
        lengths: list[int] = []
        while sum(lengths) < hidden:
            lengths.append(min(int(generator.poisson(self.mean_span)), hidden - sum(lengths)))
        spans = len(lengths)
        items = len(ids) - hidden + spans  # of the damaged text
        is_span = np.zeros(items, bool)
        is_span[generator.choice(items, spans, replace=False)] = True
        sizes = np.ones(items, np.int64)
        sizes[is_span] = generator.permutation(lengths)  # the shortened one may stand anywhere
        firsts = np.cumsum(sizes) - sizes
        return np.where(is_span, mask, ids[np.minimum(firsts, len(ids) - 1)])


@dataclass(frozen=True, slots=True, eq=False)
class SentencePermutation:
    """The sentences of a text in random order. `ends` (vocabulary,) bool: tokens that end one; see `sentence_ends`."""

    ends: NDArray[np.bool_]

    def __call__(self, ids: Ids, mask: int, generator: np.random.Generator) -> Ids:
        sentences = np.split(ids, np.flatnonzero(self.ends[ids[:-1]]) + 1)
        return np.concatenate([sentences[index] for index in generator.permutation(len(sentences))])


Noise = TextInfilling | SentencePermutation


def sentence_ends(tokenizer: Tokenizer, marks: str = ".!?。！？") -> NDArray[np.bool_]:
    """(vocabulary,) bool: the tokens whose text ends in one of `marks`, the full stop of the paper among them."""
    special = set(tokenizer.special_ids.values())
    texts = [tokenizer.decode([index]).rstrip() for index in range(tokenizer.vocabulary_size)]
    return np.array([text[-1:] in marks and bool(text) and i not in special for i, text in enumerate(texts)])


@dataclass(frozen=True, slots=True)
class Denoising(Rewriting):
    """A text goes through each `noise` in turn, and is written down as it was.

    noise  BART-large: (SentencePermutation(ends), TextInfilling()) (section 5)
    mask   the token that hides others
    bos    begins source and target; None: nothing does
    eos    ends both, and begins what the decoder reads, as in BART
    apart  whether each document of a row is a text of its own; without, the row is one
    """

    noise: tuple[Noise, ...]
    mask: int
    bos: int | None
    eos: int
    apart: bool = True
    label_smoothing: float = 0.0
    z_loss: float = 0.0

    def __post_init__(self) -> None:
        if not self.noise:
            raise ValueError("nothing is to be restored: name a noise, such as TextInfilling()")
        if self.mask in (self.bos, self.eos):
            raise ValueError("the token that hides others must be another than those that begin or end a text")

    def examples(self, batch: Batch, seed: int) -> Rewritings:
        frame = [token for token in (self.bos, self.eos) if token is not None]
        begin = frame[:-1]
        pairs = []
        for ids, generator in texts_of(batch, seed, self.apart, frame):
            if not len(ids):
                continue  # of a document that was its frame
            noisy = ids
            for noise in self.noise:
                noisy = noise(noisy, self.mask, generator) if len(noisy) else noisy
            pairs.append(tuple(np.array([*begin, *text, self.eos]) for text in (noisy, ids)))
        return rewritings(pairs, start=self.eos)
