"""An n-gram language model of words that learns from the user's good texts (`ngram_trainer.py`), for filters by
perplexity: one keeps what reads like the texts that the model learned from.

It does what KenLM does for CCNet (Wenzek et al. 2020, section 3.3) with tables of numpy: no compiler, no download.
Perplexities of models with other vocabularies are not comparable. A neural model can take its place, as a function.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmworks.artefact import new_file
from lmworks.corpus.attributes import Attributes
from lmworks.corpus.taggers.classifier import check_features, read_arrays
from lmworks.corpus.taggers.tagger import Tagger, Text
from lmworks.corpus.taggers.words import tokens

# Texts -> for each the nats that it costs, -ln p(text), and its tokens. Nothing is known of what is before a text.
Score = Callable[[Sequence[str]], Sequence[tuple[float, int]]]
Grams = NDArray[np.uint64]

_TOKENS = 1  # version: with other tokens, models on disk are worth nothing
UNKNOWN, FIRST_WORD = 1, 2  # numbers of words; 0 is the beginning of a text
_DIGITS = re.compile("[1-9]")
_MOST_NATS = 700.0  # a token: e^700 is near the largest float


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

    def save(self, path: Path) -> None:
        """One new .npz file of arrays alone; equal models give equal files. FileExistsError rather than overwrite."""
        arrays = {
            "description": np.array([_TOKENS, self.tables.order, self.tables.bits, self.unknown], np.int64),
            "unigrams": self.tables.unigrams,
        }
        for name in ("grams", "shares", "weights"):
            arrays |= {f"{name}{number}": each for number, each in enumerate(getattr(self.tables, name))}
        arrays["words"] = np.frombuffer("\n".join(self.words).encode("utf-8", "surrogatepass"), np.uint8)
        with new_file(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays)


def load_ngram_model(path: Path) -> NgramModel:
    """Read what `save` wrote. FileNotFoundError where there is no such file; ValueError for another one,
    and for a model whose tokens are not those of this program."""
    arrays = read_arrays(path, ("description", "unigrams", "grams0", "words"), "n-gram model")
    found, order, bits, unknown = arrays["description"].tolist()
    check_features(path, found, _TOKENS)
    levels = (tuple(arrays[f"{name}{n}"] for n in range(order - 1)) for name in ("grams", "shares", "weights"))
    names = arrays["words"].tobytes().decode("utf-8", "surrogatepass").split("\n")
    words = {name: number for number, name in enumerate(names, start=FIRST_WORD)}
    return NgramModel(Tables(order, bits, arrays["unigrams"], *levels), words, unknown)


def model_tokens(text: str) -> list[str]:
    """The tokens of a text as a model sees them: casefolded, every digit a 0 (as CCNet has it)."""
    found = tokens(text)
    return _DIGITS.sub("0", "\n".join(found).casefold()).split("\n") if found else []


def word_numbers(text: str, words: dict[str, int]) -> NDArray[np.int64]:
    found = model_tokens(text)
    return np.fromiter(map(words.get, found, repeat(UNKNOWN)), np.int64, len(found))


# ---------------------------------------------------------------------------------------------------------------------
# Perplexity, e to the power of the nats for each token, of this or of any other model


def perplexity_tagger(score: Score) -> Tagger:
    """The score `perplexity`; absent for a text without tokens."""
    line = "how many words, all equally likely, an n-gram model finds each word to be one of"
    return Tagger("perplexity", partial(_tag, score), {"score.perplexity": line})


def _tag(score: Score, text: Text) -> Attributes:
    (found,) = perplexities([text.text], score)
    return Attributes({} if found is None else {"perplexity": found})


def perplexities(texts: Sequence[str], score: Score) -> list[float | None]:
    """The perplexity of each text, None where it has no tokens. ValueError where `score` gives something else than nats
    and tokens for each text."""
    found = score(texts)
    if len(found) != len(texts):
        raise ValueError(f"the language model scored {len(found)} texts of {len(texts)}")
    for nats, count in found:
        if not 0 <= nats <= _MOST_NATS * count:
            raise ValueError(f"the language model gave {nats} nats to {count} tokens")
    return [math.exp(nats / count) if count else None for nats, count in found]
