"""Merging that goes on where a vocabulary's own merges have ended: its tokens are the first symbols.

A name that is in the vocabulary must not be made a second time. That is a question of spelling, which the learner does
not know, but there is no need to tell it: in all encodings by merges a name is cut in one way only. No merge has
crossed the borders of such a stretch, since it would not be one otherwise, so the same merges have run inside it as
would run on its letters alone (they are chosen by rank, then from the left, and know no context). The tokens that a
name becomes by itself are therefore the only ones that could be merged to it.
"""

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from lmworks.progress import Report, no_report
from lmworks.tokenizer.training.initial_symbols import BOUNDARY, Spelling, lay_out
from lmworks.tokenizer.training.merges import merge_symbols

Names = tuple[str, ...]


def continue_merges(
    words: Mapping[Names, int],
    count: int,
    *,
    least: int = 1,
    apart: Collection[str] = (),
    taken: Iterable[Names] = (),
    progress: Report = no_report,
) -> list[tuple[str, str]]:
    """At most `count` merges, each the two names that it joins, the most frequent pair first.

    words   words in the names of their tokens, and how often each occurs
    least   a pair that is rarer is not merged
    apart   names that stand for something else than their letters: no part of a merge
    taken   what names that there are already become by themselves, so that none is made again

    Of equally frequent pairs the first by name is merged, tokens that are made here in the order of making after all
    others. The same words in any order give the same merges.
    """
    spelling = _spell(words, apart)
    names = list(spelling.alphabet)
    number = {name: symbol for symbol, name in enumerate(names)}
    banned = [tuple(map(number.__getitem__, parts)) for parts in taken if number.keys() >= set(parts)]
    learnt = merge_symbols(spelling, count, least=least, banned=banned, progress=progress)
    pairs: list[tuple[str, str]] = []
    for left, right in zip(learnt["left"].tolist(), learnt["right"].tolist(), strict=True):
        pairs.append((names[left], names[right]))
        names.append(names[left] + names[right])
    return pairs


def _spell(words: Mapping[Names, int], apart: Collection[str]) -> Spelling:
    alphabet = tuple(sorted({name for word in words for name in word} - set(apart)))
    number = {name: symbol for symbol, name in enumerate(alphabet)}
    ordered = sorted(words, key=lambda word: -words[word])
    lengths = np.fromiter(map(len, ordered), np.int64, len(ordered))
    counts = np.fromiter((words[word] for word in ordered), np.int64, len(ordered))
    symbols = (number.get(name, BOUNDARY) for word in ordered for name in word)
    return lay_out(alphabet, np.fromiter(symbols, np.int32, int(lengths.sum())), lengths, counts)
