"""The settings of corpus.balance: shares of sources and languages, upsampling factors, repeats, and their variants."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from lmworks.config import SHAPES_NOTHING, unknown
from lmworks.corpus.balance.augmentation import AUGMENTATIONS
from lmworks.corpus.documents import Kind
from lmworks.corpus.filtering.filter_policy import Limit
from lmworks.corpus.languages import check_language
from lmworks.corpus.work_parts import ExecutionConfig

_MOST = 100  # times that a document counts, and epochs


@dataclass(frozen=True, slots=True)
class SourceShare:
    """The share of one source.

    weight      Its share relative to the weights of the others; 0 takes none of it.
    max_epochs  How often it may come at most, in place of the `max_epochs` of all.
    """

    weight: float | None = None
    max_epochs: float | None = None

    def __post_init__(self) -> None:
        weight = self.weight or 0
        _check(0 <= weight < math.inf, f"weight must be a number from 0 on, and finite, got {weight!r}")
        _check_epochs(1 if self.max_epochs is None else self.max_epochs)


@dataclass(frozen=True, slots=True)
class LanguageShare:
    """The least and the most of the corpus that a language may have, from 0 to 1."""

    at_least: float = 0.0
    at_most: float = 1.0

    def __post_init__(self) -> None:
        low, high = self.at_least, self.at_most
        _check(0 <= low <= high <= 1, f"0 <= at_least <= at_most <= 1 is wanted, got {low:g} and {high:g}")


@dataclass(frozen=True, slots=True)
class UpsamplingFactor:
    """Documents that count more, or less, than once. All that is named must fit; where several factors do, they are
    multiplied.

    times      How often such a document counts: 3 as if it had come three times, 0.5 as if every other one had.
    limits     Score of corpus.tag → the values that fit; one that a document lacks does not.
    labels     Label of corpus.tag → the words that fit.
    sources    Globs of sources.
    kinds      Kinds: web, manual, book, code, mail, chat, text.
    languages  Languages; "unknown" for documents without one.
    """

    times: float
    limits: Mapping[str, Limit] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    languages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(0.01 <= self.times <= _MOST, f"times must lie between 0.01 and {_MOST}, got {self.times:g}")
        named = self.limits or self.labels or self.sources or self.kinds or self.languages
        _check(bool(named), "a factor of all documents changes nothing: name what it is of, such as sources")


@dataclass(frozen=True, slots=True)
class BalanceConfig:
    """Which documents make up the corpus, and how often each of them comes.

    sources      Source → `weight`, its share relative to the others, and `max_epochs`, in place of that of all. A
                 source has the name of a folder or file that was read (`Document.source`), not of a stage. Weights are
                 given to all sources or to none; without them, sizes decide; 0 takes none of a source.
    temperature  T of p ∝ n^(1/T) for sources without weights, from 0.01 to 1e9: 1 follows the sizes, larger ones level
                 them.
    languages    Language → `at_least` and `at_most`, the share of the corpus that it may have, from 0 to 1; "unknown"
                 is that of documents without one. A bound moves all that is in the language alike, so that the sources'
                 weights hold within each language.
    factors      Upsampling factors, documents that count more, or less, than once: `times`, and of what documents, by
                 `limits`, `labels`, `sources`, `kinds` or `languages`, all of which must fit.
    max_epochs   How often a source may come at most, each document counted as the factors say; what a source then
                 lacks, the others get.
    unit         What shares and totals are counted in: `bytes` of UTF-8, or `documents`.
    total        Size of the corpus in that unit; left out: the largest at which every source has its share and none
                 passes its max_epochs. Without weights, temperature, bounds and factors that is all that comes.
    augment      Augmentation → which share of the repeats of prose it rewrites: `rewrap`, `lowercase`,
                 `plain_punctuation`.
    evaluation   Inputs whose documents are there to evaluate by: none of them goes into the corpus, nor does any
                 document of another input with the same text.
    seed         Of what is drawn.
    execution    Who does the work.
    """

    sources: Mapping[str, SourceShare] = field(default_factory=dict)
    temperature: float = 1.0
    languages: Mapping[str, LanguageShare] = field(default_factory=dict)
    factors: tuple[UpsamplingFactor, ...] = ()
    max_epochs: float = 1.0
    unit: Literal["bytes", "documents"] = "bytes"
    total: int | None = None
    augment: Mapping[str, float] = field(default_factory=dict)
    evaluation: tuple[str, ...] = ()
    seed: int = 0
    execution: ExecutionConfig = field(default_factory=ExecutionConfig, metadata=SHAPES_NOTHING)

    def __post_init__(self) -> None:
        _check_epochs(self.max_epochs)
        least = sum(Fraction(repr(share.at_least)) for share in self.languages.values())
        shares = [Fraction(repr(share)) for share in self.augment.values()]
        weights = [share.weight for share in self.sources.values() if share.weight is not None]
        _check(0.01 <= self.temperature <= 1e9, f"temperature must lie between 0.01 and 1e9, got {self.temperature!r}")
        if weights:
            _check(self.temperature == 1, "temperature is for sources without weights: leave out one of the two")
            _check(any(weights), "all weights are 0: nothing would be left")
        is_total = self.total is None or 1 <= self.total < 2**62
        _check(is_total, f"total must be a positive number of {self.unit}, got {self.total}")
        _check(0 <= self.seed < 2**63, f"seed must be a whole number from 0 to 2^63 - 1, got {self.seed}")
        _check(least <= 1, f"languages: the at_least of all sum to {float(least):g}, more than 1: lower one")
        for name in self.languages.keys() - {"unknown"}:
            check_language(name)
        for name in self.augment:
            _check(name in AUGMENTATIONS, unknown("augmentation", name, list(AUGMENTATIONS)))
        _check(all(share > 0 for share in shares) and sum(shares) <= 1, "augment: shares above 0 sum to 1 at most")

    def epochs_of(self, source: str) -> Fraction:
        """`max_epochs` of a source, as it is written."""
        share = self.sources.get(source)
        return Fraction(repr(self.max_epochs if share is None or share.max_epochs is None else share.max_epochs))


def unknown_source(name: str, sources: Sequence[str]) -> str:
    """The message for a source that no document has; `sources` are those that there are."""
    note = "A source has the name of a folder or file that was read, and not that of a stage"
    return f"{unknown('source', name, sources)}. {note}; one that cleaning emptied is left out, or has weight=0"


def _check_epochs(epochs: float) -> None:
    _check(0 < epochs <= _MOST, f"max_epochs must be above 0 and at most {_MOST}, got {epochs!r}")


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
