"""Choice of the solved examples that a prompt shows: the first ones, the nearest ones, or near and diverse ones.

Sources: Liu et al. 2022, "What Makes Good In-Context Examples for GPT-3?" (nearest neighbours of the input, the nearest
last); Carbonell & Goldstein 1998 (maximal marginal relevance, here with equal weights).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from lmworks.evaluate.passage_selection import fitting
from lmworks.prompt.config import SLOT, Prompt, Value

Encode = Callable[[Sequence[str]], np.ndarray]  # texts -> (n, width), rows of length 1


def remembered(encode: Encode) -> Encode:
    """The same function, which encodes the pool of a prompt's examples once."""
    pools = lru_cache(8)(encode)
    return lambda texts: encode(texts) if len(texts) == 1 else pools(tuple(texts))


def choose_examples(
    prompt: Prompt, question: str, count: Callable[[str], int] | None, encode: Encode | None
) -> list[Mapping[str, Value]]:
    """The rows in the order in which they are shown, those that are most like the input last, next to it. One with the
    very input is left out: it would show its answer. ValueError where vectors are needed and none are given."""
    config = prompt.examples
    inputs = [SLOT.sub(lambda found, row=row: str(row[found[1]]), prompt.input) for row in config.rows]
    order = [place for place, text in enumerate(inputs) if text != question]
    most = config.count or len(order)
    if config.select != "fixed" and order:
        if encode is None:
            raise ValueError(f"{prompt.name} chooses its examples by similarity: name an embedding model")
        vectors = encode(inputs)[order]
        chosen = most_relevant(encode([question])[0], vectors, most, diverse=config.select == "diverse")
        order = [order[place] for place in chosen]
    order = order[:most]
    if config.tokens and count is not None:
        sizes = [count(f"{inputs[place]}\n{config.rows[place]['answer']}") for place in order]
        order = [order[one] for one in fitting(sizes, config.tokens)]
    return [config.rows[place] for place in (order if config.select == "fixed" else reversed(order))]


def most_relevant(query: np.ndarray, vectors: np.ndarray, most: int, *, diverse: bool) -> list[int]:
    """The places of the vectors by cosine with the query, (width,) and (n, width) of rows of length 1. `diverse`: each
    next one by its cosine less its largest with those before it."""
    relevance = vectors @ query
    if not diverse:
        return np.argsort(-relevance, kind="stable")[:most].tolist()
    chosen: list[int] = []
    nearest = np.full(len(vectors), -np.inf)
    while len(chosen) < min(most, len(vectors)):
        gain = relevance - (nearest if chosen else 0.0)
        gain[chosen] = -np.inf
        chosen.append(int(np.argmax(gain)))
        nearest = np.maximum(nearest, vectors @ vectors[chosen[-1]])
    return chosen
