"""Diversity and repetition: distinct n-grams, repeated n-grams, BLEU of samples against each other.

Sources: Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models", section 5.4
(distinct-n); Welleck et al. 2020, "Neural Text Generation with Unlikelihood Training", section 6 (seq-rep-n); Zhu et al.
2018, "Texygen", section 3 (self-BLEU).
"""

from collections.abc import Sequence

from lmworks.evaluate.metric import Item, Metric, Response, Value, each
from lmworks.evaluate.rouge import ngrams
from lmworks.evaluate.translation_metrics import self_bleu
from lmworks.records import Unscored


def distinct(texts: Sequence[str], n: int) -> tuple[int, int]:
    """(different n-grams, n-grams) of all the texts together, of words between white space; distinct-n is their ratio,
    which falls as the texts grow longer."""
    found = [gram for text in texts for gram in ngrams(text.split(), n)]
    return len(set(found)), len(found)


def repetition(text: str, n: int) -> tuple[int, int]:
    """(n-grams that stood in the text before, n-grams): 1 - different n-grams / n-grams is their ratio."""
    different, total = distinct([text], n)
    return total - different, total


def _too_short(n: int) -> Unscored:
    return Unscored(f"no response has {n} words")


def distinct_metric(k: int) -> Metric:
    """Distinct-k of a response and its samples; over items, the counts are added up item by item."""

    def measure(_: Item, response: Response) -> Value:
        different, total = distinct((response.text, *response.samples), k)
        return (float(different), float(total)) if total else _too_short(k)

    return Metric(f"distinct@{k}", each(measure), proportion=True)


def repetition_metric(k: int) -> Metric:
    """Share of the k-grams of a response that repeat earlier ones of it; over items, of all k-grams."""

    def measure(_: Item, response: Response) -> Value:
        repeated, total = repetition(response.text, k)
        return (float(repeated), float(total)) if total else _too_short(k)

    return Metric(f"repetition@{k}", each(measure), higher_is_better=False, proportion=True)


def self_bleu_metric() -> Metric:
    """Self-BLEU of a response and its samples, per cent: the higher, the more alike."""

    def measure(_: Item, response: Response) -> Value:
        if not response.samples:
            return Unscored("self-BLEU compares samples of one prompt: draw at least one beside the response")
        return self_bleu((response.text, *response.samples))

    return Metric("self-bleu", each(measure), higher_is_better=False, signature={"tok": "13a", "smooth": "exp"})
