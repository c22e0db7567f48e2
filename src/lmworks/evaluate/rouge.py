"""ROUGE: the n-grams, or the longest common subsequence of words, that a response and a reference share.

Words are runs of a-z and 0-9 in lower case, those of more than three letters stemmed. ROUGE-Lsum takes each line for a
sentence and unites, for each sentence of the reference, what any sentence of the response has in common with it; no
word counts more often than either text has it.

Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries" (sections 2, 3.1 and 3.2).
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from lmworks.evaluate.metric import Item, Metric, Response, Value, each
from lmworks.evaluate.porter_stemmer import stem
from lmworks.evaluate.string_metrics import f1
from lmworks.records import Unscored


def rouge_words(text: str) -> list[str]:
    return [stem(word) if len(word) > 3 else word for word in re.findall("[a-z0-9]+", text.lower())]


def ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def rouge_n(response: str, reference: str, n: int) -> float:
    """F1 of the n-grams of words."""
    first, second = (Counter(ngrams(rouge_words(text), n)) for text in (response, reference))
    return f1((first & second).total(), first.total(), second.total())


def common_subsequence(reference: Sequence[str], response: Sequence[str]) -> list[int]:
    """Places in `reference` of a longest subsequence that both have; from the end, and of equal ways the one that
    leaves out a word of the reference."""
    table = [[0] * (len(response) + 1)]  # table[i][j]: length for the first i words and the first j
    for word in reference:
        above, row = table[-1], [0]
        for j, other in enumerate(response):
            row.append(above[j] + 1 if word == other else max(above[j + 1], row[j]))
        table.append(row)
    i, j, places = len(reference), len(response), []
    while i and j:
        if reference[i - 1] == response[j - 1]:
            i, j = i - 1, j - 1
            places.append(i)
        elif table[i][j - 1] > table[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return places[::-1]


def rouge_l(response: str, reference: str) -> float:
    """F1 of the longest common subsequence of words."""
    first, second = rouge_words(response), rouge_words(reference)
    return f1(len(common_subsequence(second, first)), len(first), len(second))


def rouge_lsum(response: str, reference: str) -> float:
    """F1 of the common subsequences of lines, united over the lines of the response."""
    first, second = ([rouge_words(line) for line in text.split("\n")] for text in (response, reference))
    left = Counter(word for line in first for word in line) & Counter(word for line in second for word in line)
    common = 0
    for line in second:
        for place in sorted({place for other in first for place in common_subsequence(line, other)}):
            common += left[line[place]] > 0
            left[line[place]] -= 1
    return f1(common, sum(map(len, first)), sum(map(len, second)))


def rouge_metric(name: str, measure: Callable[[str, str], float]) -> Metric:
    def best(item: Item, response: Response) -> Value:
        references = [reference for reference in item.references if rouge_words(reference)]
        if not references:
            return Unscored("ROUGE counts the words of a-z and 0-9, of which no reference has one")
        return max(measure(response.text, reference) for reference in references)

    return Metric(name, each(best), ("references",), signature={"stemmer": "porter", "value": "F1 of the best"})


rouge_1_metric = partial(rouge_metric, "rouge-1", partial(rouge_n, n=1))
rouge_2_metric = partial(rouge_metric, "rouge-2", partial(rouge_n, n=2))
rouge_l_metric = partial(rouge_metric, "rouge-l", rouge_l)
rouge_lsum_metric = partial(rouge_metric, "rouge-lsum", rouge_lsum)
