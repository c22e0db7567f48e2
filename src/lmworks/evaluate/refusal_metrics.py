"""Metrics of a model that may say that it does not know: an item's field `known` says whether it should answer.

Sources: Zhang et al. 2024, "R-Tuning", section 4 (known and unknown questions); Röttger et al. 2024, "XSTest"
(over-refusal: what should have been answered); Geifman & El-Yaniv 2017 (risk and coverage).
"""

import re
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from lmworks.evaluate.metric import Item, Metric, Response, Value, each
from lmworks.evaluate.string_metrics import contains, token_f1
from lmworks.records import Unscored

LONG = 10  # words: a longer reference is a sentence, which nobody repeats to the letter
GROUPS = 100  # of confidences

_UNABLE = r"(?:do not|don't|cannot|can't|could not|couldn't|am (?:not able|unable) to)"
_KNOW = r"(?:know|answer|say|tell|find|provide|have (?:\w+ ){0,3}(?:answer|information|knowledge))"
_REFUSAL = re.compile(
    rf"\bI {_UNABLE} (?:\w+ )?{_KNOW}\b"
    r"|\bI(?: am|'m) (?:not (?:sure|certain|aware|familiar)|unsure|uncertain)\b"
    r"|\b(?:beyond|outside) (?:\w+ ){0,2}my knowledge\b"
    r"|\b(?:passage|text|context)\b[^.]{0,40} (?:does not|doesn't) (?:say|tell|mention|answer|contain|provide|state)\b"
    r"|\bnot (?:\w+ly )?(?:mentioned|stated|specified|provided|given) in (?:the|this) (?:passage|text|context)\b",
    re.IGNORECASE,
)


def is_refusal(text: str) -> bool:
    """Whether the first sentence of a response, or its first line, says that the answer is not known."""
    first = re.split(r"(?<=[.!?])\s|\n", text.strip().replace("’", "'"), maxsplit=1)[0]
    second = text.strip()[len(first) :].strip() if re.match(r"(?:I(?: a|')m )?sorry\b", first, re.IGNORECASE) else ""
    return bool(_REFUSAL.search(f"{first} {second}"))


def is_right(item: Item, response: Response) -> bool:
    """Whether an answer holds the words of a reference; of one longer than `LONG`, F1 of the words is above 0.5."""
    return not is_refusal(response.text) and any(
        token_f1(response.text, one) > 0.5 if len(one.split()) > LONG else contains(response.text, one) == 1
        for one in item.references
    )


def answer_confidence(response: Response) -> float:
    """Rank of a response among others: the stated confidence, or else e^(mean ln p of its tokens); a refusal stands
    below all answers, the surer the lower."""
    sure = response.confidence
    if sure is None:
        sure = float(np.exp(np.mean(response.log_probabilities))) if response.log_probabilities else 0.0
    return -sure if is_refusal(response.text) else sure


def _share(
    name: str, part: Callable[[bool, bool], bool], whole: Callable[[bool, bool], bool], higher_is_better: bool = True
) -> Metric:
    """The metric of what is `part`, of all that is `whole`: both functions take whether the item is known and whether
    the response refuses."""

    def measure(item: Item, response: Response) -> Value:
        known = item.fields.get("known")
        if not isinstance(known, bool):
            return Unscored("the item has no field known, true or false")
        refused = is_refusal(response.text)
        return float(part(known, refused) and whole(known, refused)), float(whole(known, refused))

    return Metric(name, each(measure), higher_is_better=higher_is_better, proportion=True)


_given = each(lambda _, one: float(not is_refusal(one.text)))
_right = each(lambda item, one: (float(is_right(item, one)), float(not is_refusal(one.text))))

refusal_precision_metric = partial(_share, "refusal-precision", lambda known, _: not known, lambda _, refused: refused)
refusal_recall_metric = partial(_share, "refusal-recall", lambda _, refused: refused, lambda known, _: not known)
over_refusal_metric = partial(_share, "over-refusal", lambda _, refused: refused, lambda known, _: known, False)
coverage_metric = partial(Metric, "coverage", _given, higher_is_better=None, proportion=True)
selective_accuracy_metric = partial(Metric, "selective-accuracy", _right, ("references",), proportion=True)


def aurc_metric() -> Metric:
    """Area under the risk-coverage curve by `answer_confidence`, where a refusal counts as wrong: the mean, over the
    coverages, of the share of wrong ones among the surest. Confidences are compared in `GROUPS` groups of as many
    items, equal ones in one."""

    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        confidence, n = np.array([answer_confidence(one) for one in responses]), len(responses)
        groups = np.searchsorted(np.sort(-confidence), -confidence) * min(GROUPS, n) // max(n, 1)  # by rank, surest 0
        rows = np.zeros((n, 2, GROUPS))
        wrong = [not is_right(*pair) for pair in zip(items, responses, strict=True)]
        rows[np.arange(n), :, groups] = np.stack([np.array(wrong, float), np.ones(n)], axis=1)
        return [tuple(row) for row in rows.reshape(n, 2 * GROUPS).tolist()]

    return Metric("aurc", measure, ("references",), higher_is_better=False, combine=area_of_sums)


def area_of_sums(sums: np.ndarray) -> np.ndarray:
    """The area from wrong ones and items of each group, surest first, (..., 2 * GROUPS) -> (...)."""
    wrong, items = np.moveaxis(sums.reshape(*sums.shape[:-1], 2, GROUPS), -2, 0)
    risk = np.cumsum(wrong, -1) / np.maximum(np.cumsum(items, -1), 1)
    return (items * risk).sum(-1) / items.sum(-1)
