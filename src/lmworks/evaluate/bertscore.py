"""BERTScore (Zhang et al. 2020): how well the tokens of two texts match as vectors of a layer of an encoder.

metric("bertscore", encoder=TextEncoder(load("all-minilm-l6-v2")))
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from lmworks.evaluate.metric import Item, Metric, Response, Value
from lmworks.generate.text_embedding import TextEncoder
from lmworks.records import Unscored

Part = Literal["precision", "recall", "f1"]


class Match(NamedTuple):
    precision: float
    recall: float
    f1: float


class TokenVectors(NamedTuple):
    """A text as BERTScore reads it: `vectors` (tokens, width) of length 1, and the `weights` (tokens,) of its tokens,
    0 for the special ones, which still can be what another token matches best."""

    vectors: np.ndarray
    weights: np.ndarray


def greedy_match(candidate: TokenVectors, reference: TokenVectors) -> Match:
    """Each token against the most similar one of the other text, by cosine (equations 1 to 4): precision over the
    candidate's tokens, recall over the reference's, weighted. ValueError for a text whose tokens weigh nothing."""
    if not candidate.weights.sum() > 0 or not reference.weights.sum() > 0:
        raise ValueError("a text has no token that counts")
    cosines = candidate.vectors @ reference.vectors.T  # (candidate tokens, reference tokens)
    precision = float(np.average(cosines.max(axis=1), weights=candidate.weights))
    recall = float(np.average(cosines.max(axis=0), weights=reference.weights))
    return Match(precision, recall, 2 * precision * recall / (precision + recall))


def inverse_document_frequencies(texts: Iterable[Iterable[int]]) -> dict[int, float]:
    """Token id -> ln((n + 1) / (texts with it + 1)), over the token ids of n texts (section 3)."""
    sets = [set(ids) for ids in texts]
    counts = Counter(token for own in sets for token in own)
    return {token: math.log((len(sets) + 1) / (count + 1)) for token, count in counts.items()}


@dataclass(frozen=True)
class BertScorer:
    """BERTScore of pairs of texts with the vectors of one layer.

    idf       token id -> weight, and `rarest` the weight of a token without one; None: all tokens weigh 1
    baseline  of precision, recall and F1, each then rescaled as (x - baseline) / (1 - baseline); it is what unrelated
              texts have, so that values spread over [0, 1] and orders stay (section 5)
    """

    encoder: TextEncoder
    layer: int
    idf: Mapping[int, float] | None = None
    rarest: float = 1.0
    baseline: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def vectors(self, texts: Sequence[str]) -> list[TokenVectors]:
        before, after = self.encoder.frame
        found = []
        for ids, vectors in self.encoder.framed_tokens([text.strip() for text in texts], self.layer):
            weights = np.array([1.0 if self.idf is None else self.idf.get(token, self.rarest) for token in ids])
            weights[:before], weights[len(ids) - after :] = 0, 0
            found.append(TokenVectors(vectors, weights))
        return found

    def __call__(self, candidates: Sequence[str], references: Sequence[str]) -> list[Match | None]:
        """For each pair its match; None where a text has no token that counts. Equal texts are encoded once."""
        texts = list(dict.fromkeys([*candidates, *references]))
        found = dict(zip(texts, self.vectors(texts), strict=True))
        pairs = [(found[one], found[other]) for one, other in zip(candidates, references, strict=True)]
        return [self._rescaled(*pair) if all(own.weights.sum() > 0 for own in pair) else None for pair in pairs]

    def _rescaled(self, candidate: TokenVectors, reference: TokenVectors) -> Match:
        match = greedy_match(candidate, reference)
        return Match(*((value - least) / (1 - least) for value, least in zip(match, self.baseline, strict=True)))


def bert_scorer(
    encoder: TextEncoder,
    layer: int | None = None,
    idf_of: Sequence[str] = (),
    baseline: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> BertScorer:
    """A scorer with a layer, by default the encoder's last, and with idf weights where `idf_of` are texts to count
    tokens in, such as all references. Of all-MiniLM-L6-v2 the last layer tells entailed from other sentences best
    (docs/evaluation.md); of an encoder that was not trained on sentences it need not be."""
    layer = encoder.layers if layer is None else layer
    if not idf_of:
        return BertScorer(encoder, layer, baseline=baseline)
    idf = inverse_document_frequencies(ids for ids, _ in encoder.framed_tokens(list(idf_of), 0))
    return BertScorer(encoder, layer, idf, math.log(len(idf_of) + 1), baseline)


def bertscore(
    encoder: TextEncoder,
    part: Part = "f1",
    layer: int | None = None,
    idf_of: Sequence[str] = (),
    baseline: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Metric:
    """BERTScore of the response against the references, the best of them; see `bert_scorer`."""
    scorer = bert_scorer(encoder, layer, idf_of, baseline)

    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        counts = [len(item.references) for item in items]
        repeated = [response.text for response, count in zip(responses, counts, strict=True) for _ in range(count)]
        matches = iter(scorer(repeated, [reference for item in items for reference in item.references]))
        own = [[next(matches) for _ in range(count)] for count in counts]
        return [
            max((getattr(match, part) for match in some if match), default=Unscored("a text without a token"))
            for some in own
        ]

    signature = {"encoder": encoder.fingerprint, "layer": scorer.layer, "idf": scorer.idf, "baseline": baseline}
    name = "bertscore" if part == "f1" else f"bertscore-{part}"
    return Metric(name, measure, ("references",), signature=signature)


bertscore_precision = partial(bertscore, part="precision")
bertscore_recall = partial(bertscore, part="recall")
