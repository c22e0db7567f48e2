"""What n-gram models make of the targets of an objective: nats of each target, from the examples the network gets.

Each is told all that the network can see of the neighbours it looks at, and what of it the objective's own rules say.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from contenders.ngram import Between, Ids, KneserNey, Probabilities
from lmworks.train.objectives.masked import MaskedLanguageModel, MaskedTokens
from lmworks.train.objectives.sequence_to_sequence import Rewritings
from lmworks.train.objectives.span_corruption import SpanCorruption

AT_A_TIME = 1024  # masked tokens whose distributions exist at once
LONGEST = 64  # tokens of a span, beyond which its end is as likely as there


def of_next_tokens(model: KneserNey, text: Ids) -> Probabilities:
    """Nats of each token of a text but the first, (tokens - 1,), after those before it."""
    (found,) = model.of_texts([text])
    return -np.log(found[1:])


def of_masked(model: Between, examples: MaskedTokens, objective: MaskedLanguageModel) -> dict[str, Probabilities]:
    """Nats of each masked token, (masked,), by what is looked at: nothing, one neighbour, both. Rows of one text each.

    A neighbour that is masked itself is unknown. A token that is not hidden by the mask was kept or replaced by any
    token of text, and Bayes' rule says how likely each true one is then: p(w) (kept [seen = w] + random / tokens) / Σ.
    """
    ids, real = examples.ids.numpy(), examples.documents.numpy() >= 0
    vocabulary = objective.vocabulary
    visible = np.where(real & (ids != vocabulary.mask), ids, Between.UNKNOWN)
    beyond = np.full((len(ids), 1), Between.UNKNOWN)
    chosen = examples.mask.numpy()
    left = np.concatenate([beyond, visible[:, :-1]], axis=1)[chosen]
    right = np.concatenate([visible[:, 1:], beyond], axis=1)[chosen]
    seen, targets = ids[chosen], examples.targets.numpy()[chosen]
    kept, random = 1 - objective.masked - objective.random, objective.random / int(vocabulary.text.sum())
    kinds = {
        "nothing": model.unigram, "the left one": model.from_left, "the right one": model.from_right,
        "both neighbours": model.from_both,
    }  # fmt: skip
    nats: dict[str, list[Probabilities]] = {name: [] for name in kinds}
    for start in range(0, len(targets), AT_A_TIME):
        part = slice(start, start + AT_A_TIME)
        rows = np.arange(len(targets[part]))
        shown = seen[part] != vocabulary.mask
        for name, kind in kinds.items():
            found = kind(left[part], right[part])  # (part, vocabulary)
            prior, same = found[rows, targets[part]], found[rows, seen[part]]
            posterior = prior * (kept * (seen[part] == targets[part]) + random) / (kept * same + random)
            nats[name].append(-np.log(np.where(shown, posterior, prior)))
    return {name: np.concatenate(parts) for name, parts in nats.items()}


class MissingSpans:
    """Two models of T5's targets, which get the names and the number of the spans for nothing: the first sentinel of a
    target is certain, and all others and the end of the text are one event, "the span ends".

    targets  a trigram model of the target as it is written
    texts    the trigram model of the texts, for a token of a span after all that stands to its left in the text, times
             how often a span goes on after so many tokens
    """

    def __init__(self, texts: KneserNey, examples: Sequence[Rewritings], objective: SpanCorruption) -> None:
        self.texts, self.ends = texts, (*objective.sentinels, objective.eos)
        self.end = objective.eos
        written = [self._events(target) for _, target in _pairs(examples)]
        self.targets = KneserNey(written, texts.vocabulary)
        lengths = np.concatenate([np.diff(np.flatnonzero(events == self.end)) - 1 for events in written])
        spans = np.bincount(np.minimum(lengths, LONGEST), minlength=LONGEST + 1)
        reached = spans[::-1].cumsum()[::-1]  # spans of so many tokens or more
        self.ending = (spans + 0.5) / (reached + 1)
        self.ending[0] = 0.0  # no span is empty

    def nats(self, examples: Rewritings) -> dict[str, Probabilities]:
        """Of each target, (targets,)."""
        pairs = list(_pairs([examples]))
        by_kind = {
            "the target before": [self._of_target(target) for _, target in pairs],
            "the text before": [self._of_text(source, target) for source, target in pairs],
        }
        return {name: np.concatenate([np.zeros(0), *found]) for name, found in by_kind.items()}

    def _events(self, target: Ids) -> Ids:
        return np.where(np.isin(target, self.ends), self.end, target)

    def _of_target(self, target: Ids) -> Probabilities:
        (found,) = self.targets.of_texts([self._events(target)])
        found[0] = 1.0
        return -np.log(found)

    def _of_text(self, source: Ids, target: Ids) -> Probabilities:
        events = self._events(target)
        text, place = self._restored(source, target)
        (found,) = self.texts.of_texts([text])
        ended = np.flatnonzero(events == self.end)
        inside = np.arange(len(events)) - ended[np.searchsorted(ended, np.arange(len(events)), "right") - 1]
        ending = self.ending[np.minimum(np.roll(inside, 1), LONGEST)]  # after so many tokens of the span
        words = events != self.end
        probabilities = ending.copy()
        probabilities[words] = (1 - ending[words]) * found[place]
        probabilities[0] = 1.0
        return -np.log(probabilities)

    def _restored(self, source: Ids, target: Ids) -> tuple[Ids, Ids]:
        """The text of which source and target are halves, and where in it the target's words stand."""
        begins = np.flatnonzero(np.isin(target, self.ends))
        spans = {target[begin]: target[begin + 1 : end] for begin, end in pairwise(begins)}
        parts = [spans.get(token, np.array([token])) for token in source[:-1]]
        missing = [np.full(len(part), token in spans) for token, part in zip(source[:-1], parts, strict=True)]
        return np.concatenate(parts), np.flatnonzero(np.concatenate(missing))


def _pairs(examples: Sequence[Rewritings]) -> Iterator[tuple[Ids, Ids]]:
    """Source and target of each text, without padding."""
    for each in examples:
        for row in range(len(each.ids)):
            read, written = each.attention_mask[row], each.mask[row]
            yield each.ids[row][read].numpy(), each.targets[row][written].numpy()
