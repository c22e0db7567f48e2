"""Answers to questions: how close an answer is to its question, and what irrelevant passages do to it.

An answer's relevance by a judge is `metric("g-eval", judge=Judge(engine, rubric("relevance")))`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lmworks.evaluate.metric import Item, Metric, Response, Value, item_value, prompt_text, score
from lmworks.records import Score, Unscored
from lmworks.statistics import difference_score

if TYPE_CHECKING:
    from lmworks.generate.text_embedding import TextEncoder

Answering = Callable[[str, Sequence[str]], Response]  # question, passages -> response


def answer_relevance(encoder: "TextEncoder") -> Metric:
    """Cosine of the question and the answer, as the encoder embeds a query and a passage."""

    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        said = [place for place, one in enumerate(responses) if one.text.strip() and not one.abstained]
        questions = encoder.encode([prompt_text(items[place].prompt) for place in said], "query")  # (n, width)
        answers = encoder.encode([responses[place].text for place in said], "passage")
        cosines = dict(zip(said, (questions * answers).sum(axis=1).tolist(), strict=True))
        return [cosines.get(place, Unscored("an empty answer")) for place in range(len(items))]

    return Metric("answer-relevance", measure, signature={"encoder": encoder.fingerprint})


@dataclass(frozen=True, slots=True)
class NoiseSensitivity:
    """A metric of answers from an item's own passages, from these among irrelevant ones, and the difference of both
    over the items that have both: noisy minus clean."""

    clean: Score
    noisy: Score
    difference: Score


def noise_sensitivity(
    answer: Answering, items: Sequence[Item], noise: Sequence[str], quality: Metric, k: int = 5, seed: int = 0
) -> NoiseSensitivity:
    """Answer each item twice: from its contexts, and from these with `k` passages of `noise` put among them at random.

    A passage that is one of the item's own is not drawn for it. ValueError where fewer than `k` others are there.
    """
    generator = np.random.default_rng(seed)
    mixed: list[Item] = []
    for number, item in enumerate(items, 1):
        others = [text for text in dict.fromkeys(noise) if text not in item.contexts]
        if len(others) < k:
            raise ValueError(f"row {number} ({item.id}): {len(others)} irrelevant passages, {k} are needed: give more")
        passages = [*item.contexts, *(others[one] for one in generator.choice(len(others), k, replace=False))]
        order = generator.permutation(len(passages))
        mixed.append(replace(item, contexts=tuple(passages[one] for one in order)))
    values = [
        quality.measure(items, [answer(prompt_text(one.prompt), one.contexts) for one in given])
        for given in (items, mixed)
    ]
    pairs = np.array([[item_value(quality, one) for one in both] for both in values])  # (2, items)
    clean, noisy = pairs[:, np.isfinite(pairs).all(axis=0)].tolist()
    difference = difference_score(noisy, clean, [quality.name, quality.signature, "noise", k, seed])
    alone, among = (score(quality, items, one, [k, seed]) for one in values)
    return NoiseSensitivity(alone, among, difference)
