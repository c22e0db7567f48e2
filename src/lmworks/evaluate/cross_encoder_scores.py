"""Scores of readers, rerankers and verifiers on held-out rows, with intervals, and paired with another head's.

reader     exact match and F1 of words as SQuAD 2.0 counts them (Rajpurkar et al. 2018): no answer where its log-odds
           are 0 or less; the best span's where there is an answer; the AUROC of the log-odds
reranker   reciprocal rank and average precision of the passages that answer, among all of the row
verifier   accuracy and macro F1 over the labels of the set

A set without "neutral" is answered by the likelier of the other two; one without "contradiction" asks whether the
hypothesis is entailed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmworks.artefact import hash_json, read_json, write_json
from lmworks.evaluate.choice_metrics import accuracy
from lmworks.evaluate.comparison import Comparison, compare_values
from lmworks.evaluate.metric import Item, Metric, Response, Value, each, score
from lmworks.evaluate.ranking_metrics import average_precision
from lmworks.evaluate.string_metrics import exact_match_metric, token_f1_metric
from lmworks.generate.cross_encoder import CrossEncoder
from lmworks.records import Score
from lmworks.train.objectives.cross_encoder_objective import (
    LABELS,
    Entailment,
    Label,
    Ranking,
    Reading,
    Row,
    Task,
    group_of,
)
from lmworks.train.stage_cross_encoder import CARD

BINS = 128  # of log-odds, for the AUROC: exact where there are no more different ones
_AT_ONCE = 256  # rows, between two reports of progress


@dataclass(frozen=True, slots=True)
class HeadScores:
    """The values of each metric on the rows of a set, in order; the first metric decides between two heads."""

    items: Sequence[Item]
    metrics: Sequence[Metric]
    values: Mapping[str, Sequence[Value]]
    signature: str

    @property
    def scores(self) -> dict[str, Score]:
        """Each metric over the rows with its interval; rows of one passage are resampled together."""
        return {one.name: score(one, self.items, self.values[one.name], self.signature) for one in self.metrics}

    def less(self, other: "HeadScores") -> list[Comparison]:
        """Each metric less that of another head on the same rows, paired."""
        pairs = [(one, self.values[one.name], other.values[one.name]) for one in self.metrics]
        return [compare_values(one.combine, self.items, new, old, metric=one.name) for one, new, old in pairs]


def evaluate_head(
    head: CrossEncoder, task: Task, rows: Sequence[Row], progress: Callable[[int, int, str], object] = lambda *_: None
) -> HeadScores:
    """The scores of a head on rows of its task. UnsupportedError for a head of another one."""
    responses, labels = [], _labels(rows)
    for start in range(0, len(rows), _AT_ONCE):
        responses += _responses(head, rows[start : start + _AT_ONCE], labels)
        progress(len(responses), len(rows), "rows scored")
    return measure(task, rows, responses, head.fingerprint)


def measure(task: Task, rows: Sequence[Row], responses: Sequence[Response], signature: str = "") -> HeadScores:
    """The scores of responses, however made: of a reader the text of the best span and, as confidence, the probability
    that there is an answer; of others a number for each choice of `row_items`."""
    items, metrics = row_items(rows), METRICS[task]()
    values = {one.name: one.measure(items, responses) for one in metrics}
    return HeadScores(items, metrics, values, hash_json([signature, [(item.id, item.cluster) for item in items]]))


def write_scores(folder: Path, sets: Mapping[str, HeadScores]) -> None:
    """Write the scores on sets of held-out rows into the card of a head's folder."""
    write_json(folder / CARD, {**read_json(folder / CARD), "held_out": {name: of.scores for name, of in sets.items()}})


def row_items(rows: Sequence[Row]) -> list[Item]:
    """An item for each row; those of one passage, question or premise are a cluster."""
    items, labels = [], _labels(rows)
    for number, row in enumerate(rows):
        references, choices, answers = (), (), ()
        match row:
            case Reading():
                references = tuple(dict.fromkeys(row.context[start:end] for start, end in row.answers))
            case Ranking():
                choices = (*row.negatives, *row.right)
                answers = tuple(range(len(row.negatives), len(choices)))
            case Entailment():
                choices, answers = labels, (labels.index(row.label),)
        items.append(Item(f"{number}", "", references, (), (), choices, answers, hash_json(group_of(row))))
    return items


def _labels(rows: Sequence[Row]) -> tuple[Label, ...]:
    present = {row.label for row in rows if isinstance(row, Entailment)}
    return tuple(label for label in LABELS if label in present)


def _responses(head: CrossEncoder, rows: Sequence[Row], labels: Sequence[Label]) -> list[Response]:
    responses = []
    for row in rows:
        if isinstance(row, Reading):
            span = head.read(row.question, [row.context])[0]
            stated = float(1 / (1 + np.exp(-span.log_odds)))
            responses.append(Response(row.context[span.start : span.end], confidence=stated))
        elif isinstance(row, Ranking):
            responses.append(Response(choices=tuple(head.relevance(row.anchor, (*row.negatives, *row.right)).tolist())))
    pairs = [(row.premise, row.hypothesis) for row in rows if isinstance(row, Entailment)]
    for entailed, neutral, contradicted in head.entailment(pairs).tolist() if pairs else []:
        neutral = neutral if "contradiction" in labels else 1 - entailed
        found = {"entailment": entailed, "neutral": neutral, "contradiction": contradicted}
        responses.append(Response(choices=tuple(found[label] for label in labels)))
    return responses


# ---------------------------------------------------------------------------------------------------------------------
# Metrics


def _with_abstention(metric: Metric) -> Metric:
    """The metric with no answer where that is likelier, which is right where the passage has none."""

    def value(items: Sequence[Item], responses: Sequence[Response]) -> Sequence[Value]:
        given = [Response("" if (one.confidence or 0) <= 0.5 else one.text) for one in responses]
        return metric.measure([Item(item.id, references=item.references or ("",)) for item in items], given)

    return Metric(metric.name, value, proportion=metric.proportion)


def _reader() -> tuple[Metric, ...]:
    metrics = token_f1_metric(), exact_match_metric()
    of_spans = [Metric(f"{one.name}-answered", one.measure, proportion=one.proportion) for one in metrics]
    return (*map(_with_abstention, metrics), *of_spans, Metric("auroc", _auroc_rows, combine=auroc_of_sums))


def _auroc_rows(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
    different, ranks = np.unique([response.confidence or 0 for response in responses], return_inverse=True)
    side = [int(bool(item.references)) for item in items]
    rows = np.zeros((len(items), 2, BINS))
    rows[np.arange(len(items)), side, ranks * BINS // max(len(different), BINS)] = 1
    return [tuple(row) for row in rows.reshape(len(items), -1).tolist()]


def auroc_of_sums(sums: np.ndarray) -> np.ndarray:
    """Probability that one with an answer is stated above one without, equal ones half, from their counts in ascending
    bins: (..., 2 * bins) -> (...)."""
    without, answered = np.moveaxis(sums.reshape(*sums.shape[:-1], 2, -1), -2, 0)
    below = without.cumsum(-1) - without / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return (answered * below).sum(-1) / (answered.sum(-1) * without.sum(-1))


def _gains(item: Item, response: Response) -> list[float]:
    order = np.argsort(-np.asarray(response.choices), kind="stable")  # a tie goes to what does not answer
    return [float(place in item.answers) for place in order]


def _reranker() -> tuple[Metric, ...]:
    reciprocal = each(lambda item, response: 1 / (1 + _gains(item, response).index(1.0)))
    precision = each(lambda item, response: average_precision(_gains(item, response), [1.0] * len(item.answers)))
    return Metric("mrr", reciprocal), Metric("map", precision)


def _verifier() -> tuple[Metric, ...]:
    def confusion(item: Item, response: Response) -> Value:
        counts = np.zeros((len(item.choices),) * 2)
        counts[item.answers[0], int(np.argmax(response.choices))] = 1
        return tuple(counts.ravel().tolist())

    return accuracy(), Metric("macro-f1", each(confusion), combine=macro_f1_of_sums)


def macro_f1_of_sums(sums: np.ndarray) -> np.ndarray:
    """Mean F1 of the labels from their confusion counts, (..., labels²) -> (...); of a label that there is not, 0."""
    labels = round(sums.shape[-1] ** 0.5)
    counts = sums.reshape(*sums.shape[:-1], labels, labels)
    right, all_of = np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1) + counts.sum(-2)
    return (2 * right / np.maximum(all_of, 1)).mean(-1)


METRICS: Mapping[Task, Callable[[], tuple[Metric, ...]]] = {
    "reader": _reader,
    "reranker": _reranker,
    "verifier": _verifier,
}
