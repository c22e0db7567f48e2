"""BERTScore (Zhang et al. 2020): how well the tokens of two texts match as vectors of a layer of an encoder.

metric("bertscore", encoder="all-minilm-l6-v2")
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from lmworks.evaluate.metric import Item, Metric, Response, Value
from lmworks.generate.text_embedding import TextEncoder
from lmworks.records import Unscored


class Match(NamedTuple):
    precision: float
    recall: float
    f1: float


_NO_BASELINE = (0.0, 0.0, 0.0)
_PAIRS = 256  # whose token vectors are held at once


def greedy_match(cosines: np.ndarray, candidate_weights: np.ndarray, reference_weights: np.ndarray) -> Match:
    """Each token with the most similar one of the other text (equations 1 to 4): precision over the candidate's tokens,
    recall over the reference's, both weighted. `cosines` is (candidate tokens, reference tokens). ZeroDivisionError
    for a text whose tokens weigh nothing."""
    precision = float(np.average(cosines.max(axis=1), weights=candidate_weights))
    recall = float(np.average(cosines.max(axis=0), weights=reference_weights))
    return Match(precision, recall, 2 * precision * recall / (precision + recall))


def inverse_document_frequencies(texts: Iterable[Iterable[int]]) -> dict[int, float]:
    """Token id -> ln((n + 1) / (texts with it + 1)), over the token ids of n texts (section 3)."""
    sets = [set(ids) for ids in texts]
    counts = Counter(token for own in sets for token in own)
    return {token: math.log((len(sets) + 1) / (count + 1)) for token, count in counts.items()}


def bert_scores(
    encoder: TextEncoder,
    candidates: Sequence[str],
    references: Sequence[str],
    layer: int | None = None,
    idf_of: Sequence[str] = (),
    baseline: tuple[float, float, float] = _NO_BASELINE,
) -> list[Match | None]:
    """The match of each pair, by vectors of one layer; None where a text has no token that counts.

    layer     default: the encoder's last. Of all-MiniLM-L6-v2 it separates entailed from other sentences best
              (docs/metrics.md); of an encoder that was not trained on sentences it need not.
    idf_of    texts, such as all references, by whose document frequencies tokens are weighted; none: all weigh 1.
              Special tokens weigh 0, but can be what another matches best.
    baseline  precision, recall and F1 of unrelated texts: values are rescaled as (x - baseline) / (1 - baseline), which
              changes no order.
    """
    layer = encoder.layers if layer is None else layer
    idf = inverse_document_frequencies(ids for ids, _ in encoder.framed_tokens(idf_of, 0)) if idf_of else None
    rarest, (before, after) = math.log(len(idf_of) + 1), encoder.frame
    pairs = [(one.strip(), other.strip()) for one, other in zip(candidates, references, strict=True)]
    found: list[Match | None] = []
    for some in (pairs[start : start + _PAIRS] for start in range(0, len(pairs), _PAIRS)):
        texts = list(dict.fromkeys(text for pair in some for text in pair))
        known: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for text, (ids, vectors) in zip(texts, encoder.framed_tokens(texts, layer), strict=True):
            weights = np.array([1.0 if idf is None else idf.get(token, rarest) for token in ids])
            weights[:before], weights[len(ids) - after :] = 0, 0
            known[text] = vectors, weights
        for candidate, reference in some:
            (own, weights), (other, others) = known[candidate], known[reference]
            match = greedy_match(own @ other.T, weights, others) if weights.any() and others.any() else None
            found.append(match and Match(*((x - b) / (1 - b) for x, b in zip(match, baseline, strict=True))))
    return found


def bertscore(
    encoder: TextEncoder,
    part: Literal["precision", "recall", "f1"] = "f1",
    layer: int | None = None,
    idf_of: Sequence[str] = (),
    baseline: tuple[float, float, float] = _NO_BASELINE,
) -> Metric:
    """BERTScore of the response against the references, the best of them, in float32 whatever the weights of the
    encoder are; options as in `bert_scores`."""
    encoder = encoder.in_float32()
    layer = encoder.layers if layer is None else layer

    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        counts = [len(item.references) for item in items]
        repeated = [response.text for response, count in zip(responses, counts, strict=True) for _ in range(count)]
        references = [reference for item in items for reference in item.references]
        matches = iter(bert_scores(encoder, repeated, references, layer, idf_of, baseline))
        own = [[getattr(match, part) for _ in range(count) if (match := next(matches))] for count in counts]
        return [max(some, default=Unscored("a text without a token")) for some in own]

    signature = {"encoder": encoder.fingerprint, "layer": layer, "idf": idf_of, "baseline": baseline}
    return Metric("bertscore" if part == "f1" else f"bertscore-{part}", measure, ("references",), signature=signature)


bertscore_precision = partial(bertscore, part="precision")
bertscore_recall = partial(bertscore, part="recall")
