"""Span masking with the span-boundary objective (Joshi et al. 2020, SpanBERT, sections 3.1 and 3.2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmworks.config import at_least, positive
from lmworks.data.batches import Batch
from lmworks.model.heads import SpanBoundaryHead
from lmworks.model.transformer import Transformer
from lmworks.train.losses import Loss, token_cross_entropy
from lmworks.train.objectives.corruption_vocabulary import Vocabulary
from lmworks.train.objectives.masked import MaskedTokens, check_rates, encode
from lmworks.train.objectives.objective import TokenPrediction, generator_of, pieces_of


@dataclass(frozen=True, slots=True, eq=False)
class MaskedSpans(MaskedTokens):
    """Masked tokens, and for each token of a span, all (batch, length):

    starts    int64, the place just before its span; `ends` the one just after
    places    int64, its own place in the span, from 0
    boundary  bool, whether it is predicted from these
    """

    starts: Tensor
    ends: Tensor
    places: Tensor
    boundary: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class SpanBoundary(TokenPrediction[MaskedSpans]):
    """Spans of whole words are hidden, until `rate` of the text is. Each of their tokens is predicted twice: by the
    masked language model, and from the span's two outer neighbours and the token's place in the span.

        loss = Σ -log p(x_i | h_i) + Σ -log p(x_i | h_start, h_end, place)                             (section 3.2)

    A span has l words with the chance (1 - p)^(l - 1) · p, of those up to `max_span`, and stands anywhere with equal
    chance where both neighbours are in its document and are seen. The last ones are as long as the rate allows. A span
    is treated as one: `masked` of them become mask tokens, `random` other tokens, the rest stays.

    vocabulary  with `words`: spans of words (the paper's); without, of tokens
    p           0.2, which makes 3.8 words on average
    places      tokens further into a span have no place in the head's table: only the first loss has them
    apart       whether documents of a row see only themselves
    """

    predicted: ClassVar[str] = "masked"
    vocabulary: Vocabulary
    rate: float = 0.15
    p: float = 0.2
    max_span: int = 10
    masked: float = 0.8
    random: float = 0.1
    places: int = 10
    apart: bool = True
    label_smoothing: float = 0.0
    z_loss: float = 0.0

    def __post_init__(self) -> None:
        check_rates(self.rate, self.masked, self.random)
        positive(up_to=1, p=self.p)
        at_least(1, max_span=self.max_span, places=self.places)

    def examples(self, batch: Batch, seed: int) -> MaskedSpans:
        ids = batch.ids.numpy().copy()
        starts, ends, places = (np.zeros_like(ids) for _ in range(3))
        mask = np.zeros(ids.shape, bool)
        for row, real, key in pieces_of(batch, apart=False):
            generator = generator_of(seed, *key)
            for span in draw_spans(ids[row, real], batch.documents[row, real].numpy(), self, generator):
                length, fate = span.stop - span.start, generator.random()
                if fate < self.masked:
                    ids[row, span] = self.vocabulary.mask
                elif fate < self.masked + self.random:
                    ids[row, span] = self.vocabulary.draw(length, generator)
                mask[row, span] = True
                starts[row, span], ends[row, span], places[row, span] = span.start - 1, span.stop, range(length)
        boundary = mask & (places < self.places)
        hidden, *of_spans = (torch.from_numpy(array) for array in (ids, mask, starts, ends, places, boundary))
        return MaskedSpans(hidden, batch.positions, batch.documents, batch.ids, *of_spans)

    def counts(self, examples: MaskedSpans) -> Mapping[str, int]:
        return {**TokenPrediction.counts(self, examples), "boundary": int(examples.boundary.sum())}

    def hidden(self, model: Transformer, examples: MaskedSpans) -> Tensor:
        """TypeError for a model that is no encoder."""
        return encode(model, examples.ids, examples.positions, examples.documents, self.apart)

    def losses_of(self, model: Transformer, hidden: Tensor, examples: MaskedSpans) -> Mapping[str, Loss]:
        """TypeError for a model without SpanBERT's head; ValueError where its table is too short."""
        head = model.head
        if not isinstance(head, SpanBoundaryHead):
            raise TypeError(f"this objective needs SpanBERT's head, presets.spanbert; this one is {model.config.head}")
        if self.places > head.positions.num_embeddings:
            raise ValueError(f"the head knows {head.positions.num_embeddings} places in a span, not {self.places}")
        rows, columns = examples.boundary.nonzero(as_tuple=True)
        spans = examples.starts, examples.ends, examples.places
        boundary = token_cross_entropy(
            head.span_features(hidden, rows, *(of[rows, columns] for of in spans)),
            head.projection_to_vocabulary(model.tokens)._replace(bias=head.bias),
            examples.targets[rows, columns],
            label_smoothing=self.label_smoothing,
            z_loss=self.z_loss,
        )
        loss = Loss(boundary.sum, len(rows), {"nats": boundary.nats.sum()})
        return {**TokenPrediction.losses_of(self, model, hidden, examples), "boundary": loss}


def length_chances(p: float, longest: int) -> NDArray[np.float64]:
    """(longest,): the chances of 1, 2, … words, a geometric distribution without what is longer than the longest."""
    chances = p * (1 - p) ** np.arange(longest)
    return chances / chances.sum()


def draw_spans(
    ids: NDArray[np.int64], documents: NDArray[np.int64], settings: SpanBoundary, generator: np.random.Generator
) -> list[slice]:
    """Spans of a row without padding, in the order in which they were drawn; between two is at least one word.

    None where no word has a neighbour on both sides.
    """
    vocabulary = settings.vocabulary
    text = vocabulary.text[ids]
    words = np.arange(len(ids)) if vocabulary.words is None else vocabulary.words.numbers(ids, documents)
    firsts = np.flatnonzero(np.diff(words, prepend=-1))  # the first token of each word
    borders = np.append(firsts, len(ids))
    left = max(round(settings.rate * int(text.sum())), 1)
    seen, inside = np.ones(len(firsts), bool), text[firsts]
    lengths = generator.choice(
        np.arange(1, settings.max_span + 1), size=left, p=length_chances(settings.p, settings.max_span)
    )
    spans: list[slice] = []
    for length in lengths.tolist():
        # The first span may be longer than the rate allows: a row in which nothing is hidden teaches nothing.
        small = np.diff(borders) <= left if spans else np.ones(len(firsts), bool)
        while not len(starts := _begins(length, inside & seen, seen, documents[firsts], small)) and length:
            length -= 1
        if not length:
            break
        start = int(generator.choice(starts))
        while length > 1 and borders[start + length] - borders[start] > left:
            length -= 1
        spans.append(slice(int(borders[start]), int(borders[start + length])))
        seen[start : start + length] = False
        left -= spans[-1].stop - spans[-1].start
    return spans


def _begins(
    length: int,
    inside: NDArray[np.bool_],
    seen: NDArray[np.bool_],
    documents: NDArray[np.int64],
    allowed: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """The `allowed` words at which a span of `length` words can begin: all of it is `inside`, and the words around are
    `seen` and of its document; all given as (words,)."""
    last = len(inside) - length  # the first word behind the last one that can begin
    if last < 2:
        return np.empty(0, np.int64)
    free = np.cumsum(np.append(0, inside))
    whole = free[1 + length : last + length] - free[1:last] == length
    before, after = slice(0, last - 1), slice(1 + length, last + length)
    around = seen[before] & seen[after] & (documents[before] == documents[after])
    return np.flatnonzero(whole & around & allowed[1:last]) + 1
