"""Metrics of two strings: edit distance, exact match, and F1 of words with SQuAD's normalisation.

Sources: Levenshtein 1966 (edit distance); Rajpurkar et al. 2016, "SQuAD", section 6.1 (exact match and F1).
"""

import re
import string
from collections import Counter
from functools import partial

import numpy as np

from lmworks.evaluate.metric import Metric, best_reference

PUNCTUATION = str.maketrans("", "", string.punctuation)


def levenshtein(first: str, second: str) -> int:
    """The fewest insertions, deletions and substitutions of code points that turn one string into the other."""
    codes = np.array([ord(character) for character in second], dtype=np.int64)
    columns = np.arange(len(second) + 1)
    row = columns  # row[j]: distance of the characters of `first` so far to the first j of `second`
    for i, character in enumerate(first, 1):
        kept_or_changed = row[:-1] + (codes != ord(character))
        without_insertions = np.append(i, np.minimum(kept_or_changed, row[1:] + 1))
        row = np.minimum.accumulate(without_insertions - columns) + columns
    return int(row[-1])


def levenshtein_similarity(response: str, reference: str) -> float:
    """1 - distance / length of the longer one; 1 for two empty strings."""
    return 1 - levenshtein(response, reference) / max(len(response), len(reference), 1)


def normalised_answer(text: str) -> str:
    """Lower case, without ASCII punctuation, English articles and superfluous white space, as SQuAD compares."""
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(PUNCTUATION)).split())


def exact_match(response: str, reference: str) -> float:
    """1 where both are the same after normalisation, else 0."""
    return float(normalised_answer(response) == normalised_answer(reference))


def f1(common: int, response: int, reference: int) -> float:
    """2PR / (P + R) of P = common / response and R = common / reference; 0 where nothing is common."""
    return 2 * common / (response + reference) if common else 0.0


def token_f1(response: str, reference: str) -> float:
    """F1 of the words that both have, each as often as in the one that has it less often; 1 where neither has any."""
    first, second = normalised_answer(response).split(), normalised_answer(reference).split()
    return f1((Counter(first) & Counter(second)).total(), len(first), len(second)) if first or second else 1.0


def contains(response: str, reference: str) -> float:
    """1 where the words of the reference stand in the response, one after another, after normalisation, else 0."""
    return float(f" {normalised_answer(reference)} " in f" {normalised_answer(response)} ")


NEEDS = ("references",)
levenshtein_metric = partial(Metric, "levenshtein", best_reference(levenshtein_similarity), NEEDS)
exact_match_metric = partial(Metric, "exact-match", best_reference(exact_match), NEEDS, proportion=True)
token_f1_metric = partial(Metric, "token-f1", best_reference(token_f1), NEEDS)
contains_metric = partial(Metric, "contains", best_reference(contains), NEEDS, proportion=True)
