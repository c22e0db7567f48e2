"""METEOR: words of a response aligned with those of a reference, exactly, by stem, by synonym, and their order.

Source: Lavie & Agarwal 2007, "METEOR: An Automatic Metric for MT Evaluation with High Levels of Correlation with Human
Judgments" (section 2), as nltk implements it: each stage aligns greedily from the last word of the response with the
last free word of the reference, and synonyms are looked up by stem. METEOR 1.5 of the same authors has other weights,
a table of paraphrases, and the alignment with the fewest chunks.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from lmworks.evaluate.metric import Metric, best_reference
from lmworks.evaluate.porter_stemmer import stem
from lmworks.evaluate.wordnet import synonyms

ALPHA, BETA, GAMMA = 0.9, 3.0, 0.5
Words = dict[int, str]  # place -> word, in order of places


def meteor_words(text: str) -> list[str]:
    """Words in lower case, and marks one by one."""
    return re.findall(r"[^\W_]+|[^\w\s]|_", text.lower())


def _align(response: Words, reference: Words, forms: Callable[[str], Iterable[str]]) -> dict[int, int]:
    """Pairs of places; `forms` are the words of the reference that a word may stand for. Removes what is aligned."""
    free: dict[str, list[int]] = defaultdict(list)
    for place, word in reference.items():
        free[word].append(place)
    pairs: dict[int, int] = {}
    for place in reversed(list(response)):
        last = max((form for form in forms(response[place]) if free.get(form)), key=lambda w: free[w][-1], default=None)
        if last is not None:
            pairs[place] = free[last].pop()
            del response[place], reference[pairs[place]]
    return pairs


def meteor(response: Sequence[str], reference: Sequence[str]) -> float:
    """(1 - penalty) PR / (αP + (1 - α)R) of the words aligned; the penalty is γ (chunks / aligned words)^β, a chunk
    being a run of words that stand side by side in both. Takes words in lower case."""
    first, second = dict(enumerate(response)), dict(enumerate(reference))
    pairs = _align(first, second, lambda word: (word,))
    for words in (first, second):
        words.update({place: stem(word) for place, word in words.items()})
    pairs |= _align(first, second, lambda word: (word,))
    pairs |= _align(first, second, synonyms)
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(response), len(pairs) / len(reference)
    chunks = sum(pairs.get(place - 1) != other - 1 for place, other in pairs.items())
    penalty = GAMMA * (chunks / len(pairs)) ** BETA
    return (1 - penalty) * precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)


def meteor_metric() -> Metric:
    def measure(response: str, reference: str) -> float:
        return meteor(meteor_words(response), meteor_words(reference))

    weights = {"alpha": ALPHA, "beta": BETA, "gamma": GAMMA, "wordnet": "3.0"}
    return Metric("meteor", best_reference(measure), ("references",), signature=weights)
