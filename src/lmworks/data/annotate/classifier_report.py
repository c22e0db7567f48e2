"""What a classifier has learned and how well, as sections of a report."""

from collections.abc import Sequence
from statistics import median

import numpy as np

from lmworks.data.annotate.classifier_evaluation import Evaluation, Point
from lmworks.data.annotate.classifier_examples import Example, Usable
from lmworks.data.annotate.classifier_features import TellingFeature
from lmworks.data.annotate.classifier_training import Learned
from lmworks.records import Scored
from lmworks.report import Section, Table

SHOWN = 10  # examples of each table
_BEGINNING = 60  # characters of a text that a table shows
_WEAK = 0.8  # an AUC below is worth a warning
_UNLIKE = 3.0  # times that one side's texts are longer: worth a warning


def sections_of(learned: Learned, found: Usable, shown: int = SHOWN) -> tuple[Section, ...]:
    """In the order in which a reader needs them: what came in, how good it is, what to set, what it goes by, and
    `shown` examples of each sort."""
    evaluation = learned.classifier.evaluation
    return (
        _examples(learned, found),
        Section(
            "How well it does",
            f"On {evaluation.n:,} examples that it did not learn from, {evaluation.positives:,} of them with the "
            f"label; with 95 % intervals.{_doubt(evaluation)}",
            (_quality(evaluation),),
        ),
        _thresholds(learned.classifier.positive, evaluation),
        _telling(learned.telling),
        _scores(learned, shown),
    )


def _examples(learned: Learned, found: Usable) -> Section:
    sides = {has: [example for example in found.examples if example.label == has] for has in (True, False)}
    lengths = {has: median(len(example.text) for example in side) for has, side in sides.items()}
    rows = tuple(
        (f"with the label {learned.classifier.positive}" if has else "without it", len(side), int(lengths[has]))
        for has, side in sides.items()
    )
    told = (
        f"{learned.learned:,} examples were learned from, {learned.calibrated:,} calibrated the probabilities, "
        f"{len(learned.evaluated):,} evaluated. Not used: {found.copies:,} copies of others, {found.contrary:,} texts "
        f"that are on both sides, {found.wordless:,} without a word."
    )
    times = max(lengths.values()) / max(min(lengths.values()), 1)
    if times > _UNLIKE:
        told += (
            f" WARNING: the texts of one side are {times:.0f} times as long as those of the other. What else parts the "
            "sides besides the label is learned, too: give examples of the same sort."
        )
    return Section("Examples", told, (Table(("examples", "number", "median of characters"), rows),))


def _doubt(evaluation: Evaluation) -> str:
    """What a reader must know of a classifier that tells the two sides apart badly."""
    if evaluation.auc.interval[0] <= 0.5:
        return " WARNING: it may be no better than chance. Give more examples, or examples that differ more."
    if evaluation.auc.value < _WEAK:
        return (
            " WARNING: it is better than chance, and yet wrong too often to decide alone. Give more examples, cut only "
            "the extremes, or let a person look."
        )
    return ""


def _quality(evaluation: Evaluation) -> Table:
    best = evaluation.suggested
    rows = (
        ("AUC", str(evaluation.auc), "how often one with the label gets a higher probability than one without"),
        ("precision", str(best.precision), f"at {best.threshold:g}: of those taken, which share has the label"),
        ("recall", str(best.recall), f"at {best.threshold:g}: of those with the label, which share is taken"),
        ("wrongly taken", str(best.wrongly), f"at {best.threshold:g}: of those without it, which share is taken"),
        ("accuracy", str(evaluation.accuracy), "how often the likelier side is right"),
        ("log loss", str(evaluation.log_loss), "nats; 0 for an oracle, 0.693 for a coin among equally many"),
    )
    return Table(("measure", "value, interval, n", "what it is"), rows)


def _thresholds(positive: str, evaluation: Evaluation) -> Section:
    best = evaluation.suggested.threshold
    name = positive if positive.isidentifier() else "NAME"
    text = (
        f"Suggested: {best:g}, where recall is farthest above what is wrongly taken (Youden's index), on the examples "
        f"that calibrated. In a policy, `limits = {{ {name} = {{ at_least = {best:g} }} }}` keeps what is like the "
        f"examples of {positive}, and `at_most = {best:g}` drops it; {name} is what data.annotate calls the "
        "classifier. Precision is that of a corpus where the label is as frequent as among these examples."
    )
    others = [each for each in evaluation.points if each.threshold != best]
    points = sorted((evaluation.suggested, *others), key=lambda point: point.threshold)
    table = Table(
        ("threshold", "precision", "recall", "wrongly taken"), tuple(_of_point(each, best) for each in points)
    )
    bins = tuple(
        (f"{each.low:.1f} to {each.high:.1f}", each.n, each.predicted, each.observed, _interval(each.interval))
        for each in evaluation.reliability
    )
    columns = ("probability", "examples", "mean", "with the label", "interval")
    reliable = Table(columns, bins, "Do probabilities mean what they say?")
    return Section("Thresholds", text, (table, reliable))


def _of_point(point: Point, best: float) -> tuple[str, str, str, str]:
    shares = (point.precision, point.recall, point.wrongly)
    told = [
        f"{each.value:.3f} {_interval(each.interval)}" if isinstance(each, Scored) else each.reason for each in shares
    ]
    return f"{point.threshold:g}{' (suggested)' if point.threshold == best else ''}", told[0], told[1], told[2]


def _interval(interval: tuple[float, float]) -> str:
    return f"[{interval[0]:.3f}, {interval[1]:.3f}]"


def _telling(telling: Sequence[TellingFeature]) -> Section:
    def rows(speaks_for: bool) -> tuple[tuple[str, float, int, int], ...]:
        return tuple(
            (each.ngram, each.share, each.having, each.without) for each in telling if (each.weight > 0) == speaks_for
        )

    columns = ("words", "share", "texts with the label", "without")
    text = (
        "The n-grams that part the two sides most: each with its share in the distance between their mean log-odds, "
        "and in how many of the examples it occurs. Names, dates or marks of one source among them say that the sides "
        "differ in more than the label."
    )
    return Section(
        "What it goes by",
        text,
        (Table(columns, rows(True), "For the label"), Table(columns, rows(False), "Against it")),
    )


def _scores(learned: Learned, shown: int) -> Section:
    labels = np.array([example.label for example in learned.evaluated], bool)
    mistakes = np.abs(learned.probabilities - labels)
    worst = np.argsort(-mistakes, kind="stable")[:shown]
    by_rank = np.argsort(-learned.probabilities, kind="stable")
    spread = by_rank[np.unique(np.linspace(0, len(by_rank) - 1, min(shown, len(by_rank))).astype(int))] if shown else []
    text = (
        "Of those that evaluated. Look at the most mistaken ones first: some are hard, and some have the wrong label."
    )
    tables = (
        _score_table(learned, worst, "The most mistaken"),
        _score_table(learned, spread, "From the highest to the lowest, evenly by rank"),
    )
    return Section("Scores of examples", text, tables)


def _score_table(learned: Learned, places: Sequence[int] | np.ndarray, caption: str) -> Table:
    rows = tuple(_row(learned.evaluated[place], float(learned.probabilities[place])) for place in places)
    return Table(("probability", "label", "example", "beginning"), rows, caption)


def _row(example: Example, probability: float) -> tuple[float, str, str, str]:
    beginning = " ".join(example.text[: 4 * _BEGINNING].split())[:_BEGINNING]
    return probability, "yes" if example.label else "no", example.name, beginning
