"""Diversity and repetition: distinct n-grams, repeated n-grams, BLEU of samples against each other.

Sources: Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models", section 5.4
(distinct-n); Welleck et al. 2020, "Neural Text Generation with Unlikelihood Training", section 6 (seq-rep-n); Zhu et
al. 2018, "Texygen", section 3 (self-BLEU).
"""

from collections.abc import Sequence

import numpy as np

from lmworks.evaluate.metric import Item, Metric, Response, Value, each
from lmworks.evaluate.rouge import ngrams
from lmworks.evaluate.translation_metrics import bleu_of_sums, segment_sums
from lmworks.records import Unscored


def distinct(texts: Sequence[str], n: int) -> tuple[float, float] | Unscored:
    """(different n-grams, n-grams) of all the texts together, of words between white space; distinct-n is their ratio,
    which falls as texts grow longer. For one text, 1 - ratio is the share that repeats (seq-rep-n)."""
    found = [gram for text in texts for gram in ngrams(text.split(), n)]
    return (float(len(set(found))), float(len(found))) if found else Unscored(f"no text has {n} words")


def distinct_metric(k: int) -> Metric:
    """Distinct-k of a response and its samples; over items, the counts of each item are added up."""
    measure = each(lambda _, response: distinct((response.text, *response.samples), k))
    return Metric(f"distinct@{k}", measure, proportion=True)


def repetition_metric(k: int) -> Metric:
    """Share of the k-grams of a response that repeat earlier ones of it; over items, of all k-grams."""

    def measure(_: Item, response: Response) -> Value:
        found = distinct([response.text], k)
        return found if isinstance(found, Unscored) else (found[1] - found[0], found[1])

    return Metric(f"repetition@{k}", each(measure), higher_is_better=False, proportion=True)


def self_bleu_metric() -> Metric:
    """Mean BLEU of a response and its samples, each with all others as its references, per cent: 100 where all are the
    same."""

    def measure(_: Item, response: Response) -> Value:
        from sacrebleu import BLEU

        texts, scorer = (response.text, *response.samples), BLEU(force=True)
        if len(texts) == 1:
            return Unscored("self-BLEU compares samples: draw one or more")
        rows = [segment_sums(scorer, text, [*texts[:i], *texts[i + 1 :]]) for i, text in enumerate(texts)]
        return float(bleu_of_sums(np.array(rows)).mean())

    return Metric("self-bleu", each(measure), higher_is_better=False, signature={"tok": "13a", "smooth": "exp"})
