"""Configuration of static word vectors: skip-gram, CBOW, GloVe, subwords."""

from dataclasses import dataclass
from typing import Literal, get_args

from lmworks.config import at_least, positive, within

Objective = Literal["skip-gram", "cbow"]
OBJECTIVES = get_args(Objective)


@dataclass(frozen=True, slots=True)
class Subwords:
    """The character n-grams of a word, which share vectors with other words (Bojanowski et al. 2017, section 3.2).

    shortest  characters of an n-gram, at least, < and > around the word among them
    longest   characters of an n-gram, at most
    buckets   numbers into which n-grams are hashed; two that fall together share a vector
    """

    shortest: int = 3
    longest: int = 6
    buckets: int = 2_000_000

    def __post_init__(self) -> None:
        within(1, self.longest, shortest=self.shortest)
        within(1, (1 << 31) - 1, buckets=self.buckets)


@dataclass(frozen=True, slots=True)
class VocabularyConfig:
    """Which words get vectors, and of how many numbers.

    dimensions     numbers in a vector
    min_count      how often a word must occur to get a vector
    max_words      words in the vocabulary, at most, the most frequent first; 0 for any number
    phrases        scores from which on two neighbours become one word, "new_york", one for each pass over the text
    lowercase      texts are brought into small letters
    seed           of all random numbers
    threads        learn at once, 0 for one a core; the result is the same every time with a single one only
    """

    dimensions: int = 100
    min_count: int = 5
    max_words: int = 0
    phrases: tuple[float, ...] = ()
    lowercase: bool = True
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        positive(dimensions=self.dimensions, min_count=self.min_count)
        at_least(0, max_words=self.max_words, seed=self.seed, threads=self.threads)
        for threshold in self.phrases:
            positive(phrases=threshold)


@dataclass(frozen=True, slots=True)
class WordVectorsConfig(VocabularyConfig):
    """Skip-gram and CBOW with negative sampling (Mikolov et al. 2013a, 2013b), with subwords if wanted.

    objective      "skip-gram": a word predicts those around it; "cbow": those around it predict the word
    window         how far context reaches on either side; for each word it is drawn from 1 to this
    negative       noise words next to each word that is to be predicted
    epochs         how often the text is gone through
    subsample      share of the text from which on occurrences of a word are left out; 0 leaves none out
    noise_power    noise words are drawn by their count to this power
    learning_rate  at the beginning; it falls in a straight line to a ten-thousandth of it
    subwords       character n-grams that words are made of besides themselves, such as {}. Words that were not in the
                   text get vectors from them, too
    """

    objective: Objective = "skip-gram"
    window: int = 5
    negative: int = 5
    epochs: int = 5
    subsample: float = 1e-3
    noise_power: float = 0.75
    learning_rate: float = 0.025
    subwords: Subwords | None = None

    def __post_init__(self) -> None:
        VocabularyConfig.__post_init__(self)
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {self.objective!r}")
        positive(window=self.window, negative=self.negative, epochs=self.epochs, learning_rate=self.learning_rate)
        at_least(0, subsample=self.subsample, noise_power=self.noise_power)


@dataclass(frozen=True, slots=True)
class GloveConfig(VocabularyConfig):
    """GloVe (Pennington et al. 2014): vectors whose products are the logarithms of how often words are neighbours.

    window         how far neighbours reach on either side; one at distance d counts 1/d
    epochs         how often all pairs of neighbours are gone through
    count_limit    the count from which on a pair has its full weight (x_max; 100 in the paper, less for a small text)
    weight_power   below the limit a pair has the weight (count / limit) to this power (alpha)
    learning_rate  of AdaGrad
    """

    window: int = 10
    epochs: int = 25
    count_limit: float = 100.0
    weight_power: float = 0.75
    learning_rate: float = 0.05

    def __post_init__(self) -> None:
        VocabularyConfig.__post_init__(self)
        positive(window=self.window, epochs=self.epochs, learning_rate=self.learning_rate)
        positive(count_limit=self.count_limit)
        at_least(0, weight_power=self.weight_power)
