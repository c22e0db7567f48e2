"""Metrics of two strings: edit distance, exact match, and F1 of words with SQuAD's normalisation.

Sources: Levenshtein 1966 (edit distance); Rajpurkar et al. 2016, "SQuAD", section 6.1 (exact match and F1).
"""

import re
import string
from collections import Counter
from functools import partial

from lmworks.evaluate.metric import Metric, best_reference

PUNCTUATION = str.maketrans("", "", string.punctuation)


def levenshtein_similarity(response: str, reference: str) -> float:
    """1 - distance / length of the longer one; 1 for two empty strings. The distance is the fewest insertions,
    deletions and substitutions of code points that turn one into the other."""
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.normalized_similarity(response, reference)


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
