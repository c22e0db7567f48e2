"""The one shape of a metric, a judge and a reward: items and responses in, a value for each out.

A value is what an item adds to sums of which the metric is a function, so that a mean (value, 1), a ratio (numerator,
denominator), perplexity (nats, tokens) and corpus BLEU (matches, n-grams, lengths) are one thing: its score over items
is `combine` of the sums, its interval resamples items or clusters of them, and a paired comparison resamples both runs
alike.

    rouge = metric("rouge-l")
    values = rouge.measure([Item("1", references=("the cat sat",))], [Response("a cat sat")])
    score(rouge, items, values)
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from lmworks.limited_regex import SlowPatternError
from lmworks.records import Retrieved, Score, Span, TextOrMessages, Unscored
from lmworks.statistics.scores import interval_score, ratio, sums_score

# Columns of an item that must not be empty
Need = Literal["references", "contexts", "gold", "choices", "answers", "fields.instructions", "fields.arguments"]
Role = Literal["encoder", "model", "judge", "verifier", "learned", "reward"]  # of the models that a metric may need
# The role "verifier": (premise, hypothesis) of each -> (n, 3) probabilities of entailment, neutrality, contradiction
Verifier = Callable[[Sequence[tuple[str, str]]], np.ndarray]
Value = float | tuple[float, ...] | Unscored
Combine = Callable[[np.ndarray], np.ndarray]  # sums (..., columns) -> (...)
Interval = Callable[[np.ndarray, Sequence[Hashable] | None], tuple[float, float]]  # rows (n, columns), their clusters


@dataclass(frozen=True, slots=True)
class Item:
    """Task of an evaluation: the prompt, and what is known about a good response.

    references   texts, any of which is a good response
    contexts     texts that a response rests on: passages found, the document to summarise, the source to translate
    gold         spans, any of which answers; none where nothing answers
    choices      texts to choose between, `answers` are the numbers of the right ones
    cluster      items of one document or conversation share it, and are resampled together; "": the item is its own
    fields       anything else that its row holds, such as the checks of an instruction

    ValueError for one text where several are meant, since each of its letters would be one.
    """

    id: str
    prompt: TextOrMessages = ""
    references: tuple[str, ...] = ()
    contexts: tuple[str, ...] = ()
    gold: tuple[Span, ...] = ()
    choices: tuple[str, ...] = ()
    answers: tuple[int, ...] = ()
    cluster: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("references", "contexts", "choices"):
            if isinstance(text := getattr(self, name), str):
                raise ValueError(f"item {self.id}: {name} are several texts: write {name}=({text[:80]!r},)")


@dataclass(frozen=True, slots=True)
class Response:
    """Response of a model or a system to an item.

    samples             further responses to the same prompt, drawn at a temperature
    log_probabilities   ln p of each token of `text`
    choices             ln p of each choice of the item
    confidence          probability that the response is right, as the system states it
    abstained           a system that does not answer; `citations` are what it cites, `proposed` what it would cite if
                        it answered
    """

    text: str = ""
    samples: tuple[str, ...] = ()
    log_probabilities: tuple[float, ...] = ()
    choices: tuple[float, ...] = ()
    citations: tuple[Span, ...] = ()
    proposed: tuple[Span, ...] = ()
    retrieved: tuple[Retrieved, ...] = ()
    confidence: float | None = None
    abstained: bool = False


@dataclass(frozen=True, slots=True)
class Metric:
    """A named measure of responses.

    measure            a value for each item and its response, in order: a number for a mean, a row of numbers for
                       `combine`, or `Unscored` with the reason why this item has none
    needs              columns of an item without which it cannot be measured
    higher_is_better   None where neither end is better, such as a length
    proportion         values are 0 or 1, or counts of one kind among those of another
    version            rises when the same response gets another value
    signature          what else shapes a value: options, fingerprints of models
    interval           where resampling shifts the metric, as it does a calibration error: None is `bootstrap_interval`
    """

    name: str
    measure: Callable[[Sequence[Item], Sequence[Response]], Sequence[Value]]
    needs: tuple[Need, ...] = ()
    higher_is_better: bool | None = True
    proportion: bool = False
    combine: Combine = ratio
    version: int = 1
    signature: Mapping[str, Any] = field(default_factory=dict)
    interval: Interval | None = None


def each(measure: Callable[[Item, Response], Value]) -> Callable[[Sequence[Item], Sequence[Response]], list[Value]]:
    """The `measure` of a metric that looks at one item at a time: Unscored where an expression took too long."""

    def value(item: Item, response: Response) -> Value:
        try:
            return measure(item, response)
        except SlowPatternError as error:
            return Unscored(str(error))

    return lambda items, responses: [value(item, one) for item, one in zip(items, responses, strict=True)]


def each_referenced(
    measure: Callable[[Item, Response], Value],
) -> Callable[[Sequence[Item], Sequence[Response]], list[Value]]:
    """The same of a metric that compares with references: an item without any has no value."""
    return each(lambda item, response: measure(item, response) if item.references else Unscored("no reference"))


def best_reference(
    measure: Callable[[str, str], float],
) -> Callable[[Sequence[Item], Sequence[Response]], list[Value]]:
    """The `measure` of a metric of two texts: its highest value of the response over the references of the item."""
    return each_referenced(lambda item, response: max(measure(response.text, one) for one in item.references))


def check_items(metric: Metric, items: Sequence[Item], first: int = 1) -> None:
    """ValueError, with the row (of which `first` is the number of the first) and the remedy, for an item without what
    the metric needs."""
    for number, item in enumerate(items, first):
        for need in metric.needs:
            own = need.removeprefix("fields.")
            column = getattr(item, need) if own == need else item.fields.get(own)
            if not column or (need in ("references", "contexts", "choices") and not all(map(str.strip, column))):
                empty, named = "an empty text in" if column else "no", need + " (answer)" * (need == "references")
                raise ValueError(
                    f"row {number} ({item.id}) has {empty} {named}, which {metric.name} needs: fill the column, drop "
                    f"the row, or leave the metric out"
                )


def prompt_text(prompt: TextOrMessages) -> str:
    """A prompt as text; of a conversation, each turn behind its role."""
    if isinstance(prompt, str):
        return prompt
    return prompt[0].content if len(prompt) == 1 else "\n\n".join(f"{m.role}: {m.content}" for m in prompt)


def value_row(value: float | tuple[float, ...]) -> tuple[float, ...]:
    """The sums that a value adds."""
    return value if isinstance(value, tuple) else (float(value), 1.0)


def item_value(metric: Metric, value: Value) -> float:
    """The metric of one item alone; NaN where it has none."""
    return float("nan") if isinstance(value, Unscored) else float(metric.combine(np.asarray(value_row(value))))


def score(metric: Metric, items: Sequence[Item], values: Sequence[Value], signature: object = None) -> Score:
    """The metric over items with its 95 % interval, items of a cluster resampled together. `n` counts the items that
    have a value; where none has, the reason is that of the first. ValueError where not every item has its value."""
    if len(items) != len(values):
        raise ValueError(f"{len(items)} items and {len(values)} values: give what `measure` made of these very items")
    kept = [(item, value) for item, value in zip(items, values, strict=True) if not isinstance(value, Unscored)]
    if not kept:
        return next((value for value in values if isinstance(value, Unscored)), Unscored("no items"))
    rows = np.array([value_row(value) for _, value in kept], dtype=np.float64)
    clusters = [item.cluster or item.id for item, _ in kept]
    signed = [metric.name, metric.version, metric.signature, signature]
    if interval := metric.interval:
        value, units = float(metric.combine(rows.sum(axis=0))), len(set(clusters))
        return interval_score(value, len(kept), units, signed, lambda: interval(rows, clusters))
    none = "nothing to divide by"
    return sums_score(rows, metric.combine, signed, clusters, proportion=metric.proportion, nothing=none)
