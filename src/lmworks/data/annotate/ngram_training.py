"""How an n-gram model learns from documents, and how unlikely it finds those of their sort that it has not seen."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmworks.artefact import hash_json
from lmworks.data.annotate.config import NgramConfig
from lmworks.data.annotate.ngram_model import NgramModel, train_byte_model, train_word_model
from lmworks.data.annotate.ngram_spool import Spool, Spooled
from lmworks.data.annotate.perplexity import perplexities
from lmworks.progress import Report, no_report
from lmworks.records import Score, Scored, Unscored
from lmworks.statistics import LEVEL, ratio_score, sign

QUANTILES = (0.1, 0.33, 0.5, 0.67, 0.9, 0.95, 0.99)
SUGGESTED = 0.95  # the quantile of held-out perplexities that is the threshold suggested
_ENOUGH, _MOST = 100, 2000  # documents that are held out, at least where that is no more than a fifth, and at most
_LONGEST = 1 << 20  # characters of a held-out document that are scored


@dataclass(frozen=True, slots=True)
class Quantile:
    """So large a `share` of the held-out documents has this perplexity or a lower one."""

    share: float
    perplexity: Score


@dataclass(frozen=True, slots=True, eq=False)
class LearnedNgrams:
    """A model, and how it finds documents of the same sources.

    documents  How many it learned from, and how many `characters` they have.
    held_out   How many it did not.
    nats       What a symbol of those (a word or sign, or a byte) costs on average.
    quantiles  Of their perplexities.
    """

    model: NgramModel
    documents: int
    characters: int
    held_out: int
    nats: Score
    quantiles: tuple[Quantile, ...]

    @property
    def suggested(self) -> Score:
        """The highest perplexity that a policy may let stay so that nearly all documents of this sort do."""
        return next(each.perplexity for each in self.quantiles if each.share == SUGGESTED)


def learn_ngrams(
    texts: Iterable[str], config: NgramConfig | None = None, progress: Report = no_report
) -> LearnedNgrams:
    """Learn from texts, which are gone through once and lie on the disk meanwhile; the same texts give the same model.

    Which are held out is a matter of their hashes: copies of a text are on one side. ValueError where there are fewer
    than two different texts with something in them, or n-grams of so many words do not fit into 64 bits.
    """
    config = config or NgramConfig()
    with Spool() as spool:
        for number, text in enumerate(texts, start=1):
            spool.add(text)
            progress(number, None, "documents")
        learning, evaluating = _sides(spool, config.held_out)
        model = _train(learning, config)
        held_out = sorted(text[:_LONGEST] for text in evaluating)  # so that no interval depends on their order
        costs = model.score(held_out)
        values = np.sort([value for value in perplexities(held_out, model.score) if value is not None])
        signature = sign((config, hash_json(held_out)))
        return LearnedNgrams(
            model=model,
            documents=len(learning),
            characters=sum(map(len, learning)),
            held_out=len(held_out),
            nats=ratio_score([nats for nats, _ in costs], [count for _, count in costs], signature),
            quantiles=tuple(Quantile(share, quantile(values, share, signature)) for share in QUANTILES),
        )


def _sides(spool: Spool, share: float) -> tuple[Spooled, Spooled]:
    """Those to learn from, and those to evaluate with: of the different texts, the ones with the lowest hashes."""
    different = sorted(set(spool.hashes))
    if len(different) < 2:
        raise ValueError(
            f"there {'is one text' if different else 'are no texts'} to learn from, and some are held out to say how "
            "well it does: give more documents"
        )
    number = max(round(share * len(different)), min(_ENOUGH, len(different) // 5), 1)
    held_out = set(different[: min(number, _MOST, len(different) - 1)])
    return spool.where(lambda found: found not in held_out), spool.where(lambda found: found in held_out)


def _train(texts: Spooled, config: NgramConfig) -> NgramModel:
    if config.symbols == "bytes":
        return train_byte_model(texts, order=config.order or 5, least=config.least)
    return train_word_model(
        texts, order=config.order or 3, vocabulary=config.vocabulary, min_count=config.min_count, least=config.least
    )


def quantile(values: Sequence[float] | NDArray[np.float64], share: float, signature: str) -> Score:
    """A quantile of sorted values, with the 95 % interval that holds whatever their distribution is: between two of
    them, by ranks (Conover 1999, section 3.2). `Unscored` where there are too few values for such ranks."""
    from scipy.stats import binom

    n = len(values)
    low, high = (int(binom.ppf(level, n, share)) if n else 0 for level in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    if low < 1 or high >= n:
        return Unscored(f"{n} held-out documents are too few for this quantile")
    value = float(values[max(int(np.ceil(n * share)) - 1, 0)])
    return Scored(value, (float(values[low - 1]), float(values[high])), n, signature)
