"""An n-gram language model of words that learns from the user's good texts, for filters by perplexity: one keeps what
reads like the texts that the model learned from. `corpus.perplexity` learns it and measures by it.

It does what KenLM does for CCNet (Wenzek et al. 2020, section 3.3) with tables of numpy: no compiler, no download.
Perplexities of models with other vocabularies are not comparable.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from lmworks.artefact import hash_fraction, hash_json
from lmworks.corpus.taggers.config import NgramConfig
from lmworks.corpus.taggers.words import tokens
from lmworks.progress import Report, no_report
from lmworks.records import Score, Scored
from lmworks.report import Section, Table
from lmworks.statistics import quantile_score, ratio_score

Grams = NDArray[np.uint64]

UNKNOWN, FIRST_WORD = 1, 2  # numbers of words; 0 is the beginning of a text
_DIGITS = re.compile("[1-9]")
QUANTILES = (0.1, 0.33, 0.5, 0.67, 0.9, 0.95, 0.99)
SUGGESTED = 0.95  # the quantile of held-out perplexities that is the threshold suggested
_LONGEST = 1 << 20  # characters of a held-out document that are scored
_LEAST_DISCOUNT, _MOST_DISCOUNT = 0.1, 0.9  # where there are too few n-grams to tell


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """Interpolated Kneser-Ney probabilities of `order` (Chen & Goodman 1999, section 4.1; one discount an order, Ney et
    al. 1994), of symbols of `bits` bits.

        p_k(w | c) = max(n_k(c w) - D_k, 0) / n_k(c ·) + weight_k(c) p_{k-1}(w | c without its oldest symbol)

    n_k is the number of occurrences for the longest n-grams, and for shorter ones the number of different symbols that
    they were seen behind; weight_k(c) is what the first term leaves over, so that probabilities add up to 1. Below p_1
    all symbols are equally likely.

    A symbol is a number from 1; 0 stands for what is before the beginning of a text. An n-gram is one number: its
    newest symbol in the highest bits, its oldest in the lowest. So an n-gram without its oldest symbol is a shift away,
    and what is sorted stays so.

    unigrams  (symbols,) float64: p_1, 0 for the beginning.
    grams     Of orders 2 to `order`, (n,) uint64 each, sorted; 0, nothing but beginnings, is the first.
    shares    The first term of the formula for each of them, float32.
    weights   weight_{k+1} of each n-gram of orders 1 to `order` - 1 as a context, float32; of order 1, of each symbol.
    """

    order: int
    bits: int
    unigrams: NDArray[np.float64]
    grams: tuple[Grams, ...]
    shares: tuple[NDArray[np.float32], ...]
    weights: tuple[NDArray[np.float32], ...]

    def log_probabilities(self, texts: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
        """(all symbols,) ln p of each symbol of each text, given those before it in its text, one text after another.
        What a text gets does not depend on the others."""
        keys, is_start = text_grams(texts, self.order, self.bits)
        # Looking up what is sorted reads the tables from their beginning to their end: several times faster.
        arrangement = np.argsort(keys)
        ordered = keys[arrangement]
        newest = (keys >> np.uint64(self.bits * (self.order - 1))).astype(np.int64)
        found, weight = self.unigrams[newest], self.weights[0][newest].astype(np.float64)
        for place, (grams, shares) in enumerate(zip(self.grams, self.shares, strict=True)):
            wanted = ordered >> np.uint64(self.bits * (self.order - place - 2))
            rows = np.minimum(np.searchsorted(grams, wanted), len(grams) - 1)
            is_known = grams[rows] == wanted
            share = np.empty(len(keys))
            share[arrangement] = np.where(is_known, shares[rows], 0.0)
            found[1:] = share[1:] + weight[:-1] * found[1:]  # the context of a symbol ends at the symbol before it
            if place + 2 < self.order:
                weight = np.empty(len(keys))
                weight[arrangement] = np.where(is_known, self.weights[place + 1][rows], 1.0)
        return np.log(found[~is_start])


def text_grams(texts: Sequence[NDArray[np.int64]], order: int, bits: int) -> tuple[Grams, NDArray[np.bool_]]:
    """The longest n-gram that ends at each symbol, and before those of each text the one that ends before its
    beginning, which is 0; and which of them are such."""
    padded = np.concatenate([each for text in texts for each in (np.zeros(order, np.int64), text)] or [np.zeros(0)])
    symbols = padded.astype(np.uint64)
    keys = np.zeros(len(symbols), np.uint64)
    for back in range(min(order, len(symbols))):
        keys[back:] |= symbols[: len(symbols) - back] << np.uint64(bits * (order - 1 - back))
    lengths = np.array([len(text) for text in texts], np.int64)
    starts = np.concatenate(([0], np.cumsum(lengths + order)))[:-1] + order - 1
    is_start, is_inside = np.zeros(len(symbols), bool), np.ones(len(symbols), bool)
    is_start[starts] = True
    for back in range(1, order):
        is_inside[starts - back] = False
    return keys[is_inside], is_start[is_inside]


@dataclass(frozen=True, slots=True, eq=False)
class NgramModel:
    """A model of words.

    tables   Probabilities of their numbers.
    words    Number of each word, from 2; a token that is not among them is unknown.
    unknown  How many different tokens were left out of the vocabulary, plus one for all that were never seen: an
             unknown token is one of them, each as likely as the others. So rare words are not cheap because there are
             many of them.
    """

    tables: Tables
    words: dict[str, int]
    unknown: int

    def score(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Nats and tokens of each text, whatever others it comes with."""
        found = [word_numbers(text, self.words) for text in texts]
        lengths = np.array(list(map(len, found)), np.int64)
        nats = -self.tables.log_probabilities(found)
        nats[np.concatenate([np.zeros(0, np.int64), *found]) == UNKNOWN] += np.log(self.unknown)
        sums = np.bincount(np.repeat(np.arange(len(found)), lengths), nats, len(found))
        return list(zip(np.maximum(sums, 0.0).tolist(), lengths.tolist(), strict=True))


def model_tokens(text: str) -> list[str]:
    """The tokens of a text as a model sees them: casefolded, every digit a 0 (as CCNet has it)."""
    found = tokens(text)
    return _DIGITS.sub("0", "\n".join(found).casefold()).split("\n") if found else []


def word_numbers(text: str, words: dict[str, int]) -> NDArray[np.int64]:
    found = model_tokens(text)
    return np.fromiter(map(words.get, found, repeat(UNKNOWN)), np.int64, len(found))


# ---------------------------------------------------------------------------------------------------------------------
# Learning


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

    Which are held out is a matter of their hashes: copies of a text are on one side. ValueError where there are too few
    different texts to have some on both sides, or n-grams of so many words do not fit into 64 bits.
    """
    config = config or NgramConfig()
    learning, held_out = list[str](), list[str]()
    for number, text in enumerate(texts, start=1):
        if text.strip():
            side = held_out if hash_fraction(hash_json(text)) < config.held_out else learning
            side.append(text)
        progress(number, None, "documents")
    if not learning or not held_out:
        raise ValueError(
            f"there are {len(learning)} texts to learn from and {len(held_out)} that are held out to say how well it "
            "does: give more documents"
        )
    held_out = sorted(text[:_LONGEST] for text in held_out)  # so that no interval depends on their order
    model = train_ngrams(learning, config)
    costs = [cost for text in held_out for cost in model.score([text])]
    values = [float(np.exp(nats / count)) for nats, count in costs if count]
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
    if not ranked:
        raise ValueError("there is nothing to learn from: the texts have no words")
    frequent = [word for word, _ in ranked[: config.vocabulary]]
    words = {word: number for number, word in enumerate(frequent, start=FIRST_WORD)}
    symbols = len(words) + FIRST_WORD
    order, bits = config.order, (symbols - 1).bit_length()
    if order * bits > 64:
        most = (1 << (64 // order)) - FIRST_WORD
        raise ValueError(f"n-grams of {order} of {len(words):,} words are too many: set vocabulary to {most:,} at most")
    grams = np.concatenate([text_grams([word_numbers(text, words)], order, bits)[0][1:] for text in texts])
    tables = smooth(*np.unique(grams, return_counts=True), order, bits, symbols)
    return NgramModel(tables, words, len(counts) - len(words) + 1)


def smooth(grams: Grams, counts: NDArray[np.int64], order: int, bits: int, symbols: int) -> Tables:
    """The model of n-grams of `order`, sorted, and how often each occurs; `symbols` counts the beginning as well."""
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


def ngram_section(learned: LearnedNgrams, score: str) -> Section:
    """The report: what it learned from, what to set, and the quantiles to choose another threshold by."""
    model, best = learned.model, learned.quantiles[SUGGESTED]
    suggestion = f"No threshold is suggested ({best}): give more documents, or hold out a larger share."
    if isinstance(best, Scored):
        suggestion = f"Suggested: `limits = {{ {score} = {{ at_most = {best.value:.4g} }} }}`."
    text = (
        f"Learned {model.tables.order}-grams of {len(model.words):,} different words from {learned.documents:,} "
        f"documents. A word or sign of the {learned.held_out:,} held out costs {learned.nats} nats. {suggestion}"
    )
    rows = tuple((f"{share:.0%}", str(value)) for share, value in learned.quantiles.items())
    caption = "Such a share of the documents held out has this perplexity or a lower one"
    return Section("The n-gram model", text, (Table(("share", "perplexity, interval, n"), rows, caption),))
