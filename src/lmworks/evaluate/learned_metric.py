"""A metric that learned to rate, after BLEURT's idea (Sellam et al. 2020) and honestly not BLEURT: a ridge regression
of people's ratings on what a frozen encoder sees of a reference (or a source) and a candidate. The stage
`evaluate.learned` makes it from rated rows of one kind, and its card says how well it orders documents that it did
not see.

    metric("learned-quality", learned=load_learned(folder))
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmworks.adapt.adapter import load
from lmworks.artefact import StageContext, StageResult, hash_file, hash_json, read_json, write_json
from lmworks.config import from_mapping
from lmworks.data.conversations import columns_of, pair_files, rows_of
from lmworks.evaluate.bertscore import bert_scores
from lmworks.evaluate.config import LearnedConfig
from lmworks.evaluate.metric import Item, Metric, Response, Value, item_value
from lmworks.evaluate.registry import METRICS, metric
from lmworks.generate.text_embedding import TextEncoder
from lmworks.model.download import located
from lmworks.records import Rated, Score, Unscored
from lmworks.report import Section, Table
from lmworks.statistics.correlation import kendall, spearman

CARD, HEAD, NAME = "card.json", "head.npz", "learned-quality"
_PENALTIES = tuple(10.0**power for power in range(1, 7))
_FOLDS = 5


@dataclass(frozen=True, eq=False)
class LearnedHead:
    """A rating is `features @ weights + bias`; weights are (features,) float64."""

    encoder: TextEncoder
    weights: np.ndarray
    bias: float
    fingerprint: str = ""


def pair_features(encoder: TextEncoder, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """(pairs, 2 width + 9): |u - v| and u * v of the texts' vectors (Reimers & Gurevych 2019, section 3), precision,
    recall and F1 of BERTScore by the embedding layer and the last one, ln of both lengths in characters and their
    absolute difference. ValueError for a text without a token."""
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    vectors = dict(zip(texts, encoder.encode(texts, "passage").astype(np.float64), strict=True))
    u, v = (np.array([vectors[pair[side]] for pair in pairs]) for side in (0, 1))
    columns = [np.abs(u - v), u * v]
    for layer in (0, encoder.layers):
        found = bert_scores(encoder, [second for _, second in pairs], [first for first, _ in pairs], layer)
        if None in found:
            raise ValueError(f"pair {found.index(None) + 1} has a text without a token")
        columns.append(np.array(found))
    lengths = np.log([[len(first), len(second)] for first, second in pairs])
    return np.hstack([*columns, lengths, np.abs(np.diff(lengths))])


def ridge(features: np.ndarray, targets: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    """Weights (features,) and bias of the least squares with `penalty` times the squared weights of standardised
    features (Hoerl & Kennard 1970)."""
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-9
    scaled = (features - mean) / deviation
    system = scaled.T @ scaled + penalty * np.eye(scaled.shape[1])
    weights = np.linalg.solve(system, scaled.T @ (targets - targets.mean())) / deviation
    return weights, float(targets.mean() - mean @ weights)


def learned_quality(learned: LearnedHead) -> Metric:
    """The rating of the response next to each reference, of which the best counts; without references, next to the
    contexts together. It is on the scale of the ratings learned from."""

    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        references = [item.references or (("\n\n".join(item.contexts),) if item.contexts else ()) for item in items]
        texts = [response.text if response.text.strip() else "" for response in responses]
        pairs = [(other, text) for others, text in zip(references, texts, strict=True) for other in others if text]
        rated = pair_features(learned.encoder, pairs) @ learned.weights + learned.bias if pairs else np.zeros(0)
        ratings = iter(rated.tolist())
        return [
            max((next(ratings) for _ in others if text), default=Unscored("nothing to compare, or to compare with"))
            for others, text in zip(references, texts, strict=True)
        ]

    return Metric(NAME, measure, signature={"learned": learned.fingerprint})


def load_learned(folder: Path | str) -> LearnedHead:
    """The metric in an artefact of `evaluate.learned`. ValueError where its encoder is another one by now."""
    folder = Path(folder)
    card = read_json(folder / CARD)
    encoder = TextEncoder(load(card["base"]), weights=card["weights"])
    if encoder.fingerprint != card["encoder"]:
        raise ValueError(f"{folder} was trained on another {card['base']}: train it again, or name that one")
    with np.load(folder / HEAD) as arrays:
        return LearnedHead(encoder, arrays["weights"], float(arrays["bias"]), hash_file(folder / HEAD))


# ---------------------------------------------------------------------------------------------------------------------
# The stage


def learned(config: LearnedConfig, context: StageContext) -> StageResult:
    """A head learned from the rows of all documents but those held out; the penalty is the one of the least squared
    error on further documents in turn. The card holds the rank correlation with the ratings of the held-out rows.

    ValueError for a line that is no rated row, and for fewer than three documents or equal ratings.
    """
    rows = list(read_rated(pair_files(config.rows, context.base)))
    documents = sorted({_document(row) for row in rows}, key=hash_json)  # held out: the first ones by their hashes
    held_out = set(documents[: max(round(config.held_out * len(documents)), 1)])
    kept, test = ([row for row in rows if (_document(row) in held_out) == side] for side in (False, True))
    documents, goals = documents[len(held_out) :], np.array([row.rating for row in kept])
    if len(documents) < 2 or not np.ptp(goals):
        raise ValueError("a metric learns from two documents at least, and from ratings that differ: add rows")
    fold = np.array([documents.index(_document(row)) % _FOLDS for row in kept])
    encoder = TextEncoder(load(located(config.base, context.base)))
    context.progress(0, len(rows), "rows encoded")
    features = pair_features(encoder, [_texts(row) for row in kept])
    penalty = min(_PENALTIES, key=lambda one: _error(features, goals, fold, one))
    head = LearnedHead(encoder, *ridge(features, goals, penalty))
    np.savez(context.output / HEAD, weights=head.weights, bias=head.bias)
    context.progress(len(kept), len(rows), "rows encoded")
    items = [Item(str(n), references=(_texts(row)[0],), cluster=_texts(row)[0]) for n, row in enumerate(test)]
    responses, human = [Response(_texts(row)[1]) for row in test], [row.rating for row in test]
    measures = [learned_quality(head), *(metric(name, encoder=encoder) for name in config.baselines)]
    found = {one.name: correlations(one, items, one.measure(items, responses), human, "held out") for one in measures}
    card = {
        "name": NAME, "base": config.base, "encoder": encoder.fingerprint, "weights": encoder.weights,
        "rows": len(kept), "documents": len(documents), "held_out_rows": len(test), "held_out": sorted(held_out),
        "penalty": penalty, "squared_error": _error(features, goals, fold, penalty),
        "spearman": {name: one for name, (one, _) in found.items()},
        "kendall": {name: one for name, (_, one) in found.items()},
    }  # fmt: skip
    write_json(context.output / CARD, card)
    text = (
        f"{len(kept):,} rated rows of {len(documents):,} documents. Rank correlation with the ratings of {len(test):,} "
        f"rows of {len(held_out):,} documents that were held out; rows with the same prompt are resampled together."
    )
    table = Table(("metric", "Spearman", "Kendall"), tuple((name, *map(str, own)) for name, own in found.items()))
    return StageResult({"rows": len(kept)}, (Section("Agreement with people", text, (table,)),))


def _error(features: np.ndarray, goals: np.ndarray, fold: np.ndarray, penalty: float) -> float:
    """Mean squared error on the rows of each fold, of what was learned from the others."""
    squares = 0.0
    for one in np.unique(fold):
        weights, bias = ridge(features[fold != one], goals[fold != one], penalty)
        squares += float(np.square(features[fold == one] @ weights + bias - goals[fold == one]).sum())
    return squares / len(goals)


def correlations(
    one: Metric, items: Sequence[Item], values: Sequence[Value], human: Sequence[float], data: str
) -> tuple[Score, Score]:
    """Spearman's and Kendall's correlation of a metric's values with ratings, over the items that have a value; one of
    which less is better counts negatively. Items of a cluster are resampled together."""
    sign = -1 if one.higher_is_better is False else 1
    own = [sign * item_value(one, value) for value in values]
    kept = [n for n, value in enumerate(own) if math.isfinite(value)]
    first, second = [own[n] for n in kept], [human[n] for n in kept]
    signature = [one.name, one.version, one.signature, data]
    clusters = [items[n].cluster or items[n].id for n in kept]
    return spearman(first, second, signature, clusters), kendall(first, second, signature, clusters)


def read_rated(files: Sequence[Path]) -> Iterator[Rated]:
    """ValueError, with the line, for one that is no `Rated` of two texts with the source of its document."""
    for path in files:
        for where, line in rows_of(path):
            row = from_mapping(Rated, columns_of(line, where), [where])
            texts = (row.prompt, row.completion)
            if not all(isinstance(text, str) and text.strip() for text in texts) or not math.isfinite(row.rating):
                raise ValueError(f"{where}: prompt and completion are texts that are not empty, and the rating finite")
            if not row.provenance.source:
                raise ValueError(f"{where}: provenance.source names the document, by which rows are held out")
            yield row


def _document(row: Rated) -> str:
    return row.provenance.source or ""


def _texts(row: Rated) -> tuple[str, str]:
    return str(row.prompt), str(row.completion)


def check(config: LearnedConfig, base: Path) -> None:
    """LookupError for a metric that is not there, or takes more than an encoder."""
    for name in config.baselines:
        if name not in METRICS or set(METRICS[name].roles) - {"encoder"}:
            raise LookupError(f"baselines: {name!r} is no metric of the table that takes an encoder at most")
