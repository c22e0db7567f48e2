"""Metrics of summaries against their source: how much is copied, how long it is, how much of the source it holds; and
of answers against their question.

Coverage, density and compression are those of Grusky, Naaman & Artzi 2018 ("Newsroom", section 4), over words and
marks without case. The source is the item's contexts. Faithfulness is that of any answer: `evaluate.faithfulness`.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

from lmworks.evaluate.metric import Item, Metric, Response, Value, each, prompt_text
from lmworks.records import Unscored
from lmworks.tokenizer.sentence_splitter import sentences

if TYPE_CHECKING:
    from lmworks.generate.text_embedding import TextEncoder

EMPTY = Unscored("an empty response")


def words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text.lower())


def extractive_fragments(source: Sequence[str], summary: Sequence[str]) -> list[int]:
    """Lengths of the fragments that a summary shares with its source, from its beginning: at each word the longest
    sequence that stands anywhere in the source."""
    lengths, at = list[int](), 0
    while at < len(summary):
        longest = 0
        for place in (place for place, word in enumerate(source) if word == summary[at]):
            pairs = zip(source[place:], summary[at:], strict=False)
            longest = max(longest, sum(1 for _ in takewhile(lambda both: both[0] == both[1], pairs)))
        lengths += [longest] * (longest > 0)
        at += max(longest, 1)
    return lengths


def _of_words(name: str, measure: Callable[[list[str], list[str]], float]) -> Metric:
    def value(item: Item, response: Response) -> Value:
        summary = words(response.text)
        return measure(words("\n\n".join(item.contexts)), summary) if summary else EMPTY

    return Metric(name, each(value), ("contexts",), higher_is_better=None)


def coverage(source: list[str], summary: list[str]) -> float:
    """Share of the summary's words that stand in a fragment of the source."""
    return sum(extractive_fragments(source, summary)) / len(summary)


def density(source: list[str], summary: list[str]) -> float:
    """Mean length of the fragment that a word of the summary stands in: high where whole sentences are copied."""
    return sum(length**2 for length in extractive_fragments(source, summary)) / len(summary)


fragment_coverage = partial(_of_words, "fragment-coverage", coverage)
fragment_density = partial(_of_words, "fragment-density", density)
compression = partial(_of_words, "compression", lambda source, summary: len(source) / len(summary))


def content_coverage(encoder: "TextEncoder") -> Metric:
    """How much of the source's key content a summary holds: for each sentence of the source its highest cosine with a
    sentence of the summary, averaged with the weight of the sentence's own cosine with the mean of the source's
    sentences (its centrality). Cosines below 0 count as 0."""

    def value(item: Item, response: Response) -> Value:
        summary, source = sentences(response.text), [one for text in item.contexts for one in sentences(text)]
        if not summary:
            return EMPTY
        vectors = encoder.encode([*source, *summary], "passage")  # (sentences, width)
        own, other = vectors[: len(source)], vectors[len(source) :]
        weights = (own @ own.mean(axis=0)).clip(min=0)
        covered = (own @ other.T).max(axis=1).clip(min=0)  # (source sentences,)
        return float(weights @ covered / weights.sum())

    return Metric("content-coverage", each(value), ("contexts",), signature={"encoder": encoder.fingerprint})


def answer_relevance(encoder: "TextEncoder") -> Metric:
    """Cosine of the question and the answer, as the encoder embeds a query and a passage. By a judge it is
    `metric("g-eval", judge=Judge(engine, rubric("relevance")))`."""

    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        answered = [place for place, one in enumerate(responses) if one.text.strip() and not one.abstained]
        questions = encoder.encode([prompt_text(items[place].prompt) for place in answered], "query")  # (n, width)
        answers = encoder.encode([responses[place].text for place in answered], "passage")
        cosines = dict(zip(answered, (questions * answers).sum(axis=1).tolist(), strict=True))
        return [cosines.get(place, EMPTY) for place in range(len(items))]

    return Metric("answer-relevance", measure, signature={"encoder": encoder.fingerprint})
