"""Train an n-gram model on documents, and say how unlikely it finds those of their sort that it has not seen."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from lmworks.artefact import hash_json
from lmworks.corpus.taggers.config import NgramConfig
from lmworks.corpus.taggers.ngram_model import (
    FIRST_WORD,
    Grams,
    NgramModel,
    Tables,
    model_tokens,
    perplexities,
    text_grams,
    word_numbers,
)
from lmworks.progress import Report, no_report
from lmworks.records import Score, Scored
from lmworks.report import Section, Table
from lmworks.statistics import quantile_score, ratio_score

QUANTILES = (0.1, 0.33, 0.5, 0.67, 0.9, 0.95, 0.99)
SUGGESTED = 0.95  # the quantile of held-out perplexities that is the threshold suggested
_ENOUGH, _MOST = 100, 2000  # documents that are held out, at least where that is no more than a fifth, and at most
_LONGEST = 1 << 20  # characters of a held-out document that are scored
_LEAST_DISCOUNT, _MOST_DISCOUNT = 0.1, 0.9  # where there are too few n-grams to tell


@dataclass(frozen=True, slots=True, eq=False)
class LearnedNgrams:
    """A model, and how it finds documents of the same sources.

    documents  How many it learned from.
    held_out   How many it did not.
    nats       What a word or sign of those costs on average.
    quantiles  Of their perplexities, by shares of the documents.
    """

    model: NgramModel
    documents: int
    held_out: int
    nats: Score
    quantiles: dict[float, Score]


def learn_ngrams(
    texts: Iterable[str], config: NgramConfig | None = None, progress: Report = no_report
) -> LearnedNgrams:
    """Learn from texts, all of which are held in memory; the same texts give the same model.

    Which are held out is a matter of their hashes: copies of a text are on one side. ValueError where there are fewer
    than two different texts with something in them, or n-grams of so many words do not fit into 64 bits.
    """
    config = config or NgramConfig()
    kept: list[str] = []
    for number, text in enumerate(texts, start=1):
        kept += [text] if text.strip() else []
        progress(number, None, "documents")
    different = sorted(set(kept), key=lambda text: sha256(text.encode("utf-8", "surrogatepass")).digest())
    if len(different) < 2:
        raise ValueError(
            f"there {'is one text' if different else 'are no texts'} to learn from, and some are held out to say how "
            "well it does: give more documents"
        )
    number = max(round(config.held_out * len(different)), min(_ENOUGH, len(different) // 5), 1)
    apart = set(different[: min(number, _MOST, len(different) - 1)])
    learning = [text for text in kept if text not in apart]
    held_out = sorted(text[:_LONGEST] for text in kept if text in apart)  # so that no interval depends on their order
    model = train_ngrams(learning, config)
    costs = [model.score([text])[0] for text in held_out]
    values = [value for value in perplexities(held_out, model.score) if value is not None]
    signature = (config, hash_json(held_out))
    return LearnedNgrams(
        model=model,
        documents=len(learning),
        held_out=len(held_out),
        nats=ratio_score([nats for nats, _ in costs], [count for _, count in costs], signature),
        quantiles={share: quantile_score(values, share, signature) for share in QUANTILES},
    )


def train_ngrams(texts: Sequence[str], config: NgramConfig) -> NgramModel:
    """The model of all of the texts. ValueError for texts without tokens, and where n-grams of so many words do not fit
    into 64 bits."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(model_tokens(text))
    ranked = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    frequent = [word for word, count in ranked if count >= config.min_count][: config.vocabulary]
    if not frequent:
        raise ValueError(f"there is nothing to learn from: no token occurs {config.min_count} times or more")
    words = {word: number for number, word in enumerate(frequent, start=FIRST_WORD)}
    symbols = len(words) + FIRST_WORD
    order, bits = config.order, (symbols - 1).bit_length()
    if order * bits > 64:
        most = (1 << (64 // order)) - FIRST_WORD
        raise ValueError(f"n-grams of {order} of {len(words):,} words are too many: set vocabulary to {most:,} at most")
    grams = np.concatenate([text_grams([word_numbers(text, words)], order, bits)[0][1:] for text in texts])
    tables = smooth(*np.unique(grams, return_counts=True), order, bits, symbols, config.least)
    return NgramModel(tables, words, len(counts) - len(words) + 1)


def smooth(grams: Grams, counts: NDArray[np.int64], order: int, bits: int, symbols: int, least: int = 1) -> Tables:
    """The model of n-grams of `order`, sorted, and how often each occurs; `symbols` counts the beginning as well.

    Of the longest n-grams those that occur less often than `least` are left out, and what they would have had goes to
    the shorter ones.
    """
    levels = [(grams, counts)]
    for _ in range(order - 1):  # without their oldest symbol, and how many different ones each was seen behind
        levels.insert(0, np.unique(levels[0][0] >> np.uint64(bits), return_counts=True))
    seen, numbers = levels[0]
    unigrams = np.zeros(symbols)
    unigrams[seen.astype(np.int64)] = (numbers - _discount(numbers)) / numbers.sum()
    unigrams[1:] += (1.0 - unigrams.sum()) / (symbols - 1)
    kept, shares, weights = [], [], []
    contexts = np.arange(symbols, dtype=np.uint64)  # of order 1, all symbols
    for length, (these, numbers) in enumerate(levels[1:], start=2):
        rows = np.searchsorted(contexts, these & np.uint64((1 << (bits * (length - 1))) - 1))
        totals = np.bincount(rows, numbers, len(contexts))
        share = (numbers - _discount(numbers)) / totals[rows]
        if length == order:
            is_kept = numbers >= least
            these, rows, share = these[is_kept], rows[is_kept], share[is_kept]
        left_over = 1.0 - np.bincount(rows, share, len(contexts))
        weights.append(np.maximum(left_over, 0.0).astype(np.float32))
        contexts = np.concatenate(([np.uint64(0)], these))  # nothing but beginnings is a context, and never predicted
        kept.append(contexts)
        shares.append(np.concatenate(([0.0], share)).astype(np.float32))
    return Tables(order, bits, unigrams, tuple(kept), tuple(shares), tuple(weights))


def _discount(numbers: NDArray[np.int64]) -> float:
    """D = n1 / (n1 + 2 n2) of how many n-grams have the number 1 and 2."""
    once, twice = int((numbers == 1).sum()), int((numbers == 2).sum())
    estimate = once / (once + 2 * twice) if once else 0.0
    return min(max(estimate, _LEAST_DISCOUNT), _MOST_DISCOUNT)


def ngram_section(learned: LearnedNgrams) -> Section:
    """The report: what it learned from, what to set, and the quantiles to choose another threshold by."""
    model, best = learned.model, learned.quantiles[SUGGESTED]
    suggestion = f"No threshold is suggested ({best}): give more documents, or hold out a larger share."
    if isinstance(best, Scored):
        suggestion = f"Suggested: `limits = {{ perplexity = {{ at_most = {best.value:.4g} }} }}`."
    text = (
        f"Learned {model.tables.order}-grams of {len(model.words):,} different words from {learned.documents:,} "
        f"documents. A word or sign of the {learned.held_out:,} held out costs {learned.nats} nats. {suggestion}"
    )
    rows = tuple((f"{share:.0%}", str(value)) for share, value in learned.quantiles.items())
    caption = "Such a share of the documents held out has this perplexity or a lower one"
    return Section("The model", text, (Table(("share", "perplexity, interval, n"), rows, caption),))
