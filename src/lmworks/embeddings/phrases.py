"""Phrases: two words that are neighbours far more often than by chance become one (Mikolov et al. 2013b, section 4).

The score of a pair is equation 6 times the number of words in the text, as in the program of that paper,

    score(a, b) = (count(a b) - discount) * words / (count(a) * count(b))

which is how many times as often as by chance a is followed by b, with the discount against pairs of rare words. A pass
joins pairs from left to right, each word at most once; a second pass makes longer phrases of those.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lmworks.embeddings.corpus import read_corpus
from lmworks.embeddings.phrase_pairs import scored_pairs

JOINT = "_"


@dataclass(frozen=True, slots=True)
class Phrases:
    """The pairs that are phrases, with their scores."""

    scores: Mapping[tuple[str, str], float]

    def apply(self, sentence: Sequence[str]) -> list[str]:
        """The sentence with its phrases joined by `_`, from left to right."""
        result: list[str] = []
        place = 0
        while place < len(sentence):
            pair = tuple(sentence[place : place + 2])
            found = pair in self.scores
            result.append(JOINT.join(pair) if found else sentence[place])
            place += 1 + found
        return result


def learn_phrases(
    texts: Iterable[str | Sequence[str]], threshold: float = 100.0, discount: int = 5, lowercase: bool = True
) -> Phrases:
    """The phrases of texts, or of sentences that are lists of words. Memory follows the different words and pairs."""
    corpus = read_corpus(texts, lowercase=lowercase)
    pairs, scores = scored_pairs(corpus.ids, corpus.counts, threshold, discount)
    names = [(corpus.words[left], corpus.words[right]) for left, right in pairs.tolist()]
    return Phrases(dict(zip(names, scores.tolist(), strict=True)))
