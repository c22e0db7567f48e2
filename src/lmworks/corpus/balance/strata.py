"""How much of each source and language is wanted: shares by weights within bounds, within what there is.

A stratum is what a source has in a language that has bounds, or in all others. Its weight is that of its source times
its part of the source. A bound that is not met by these weights multiplies those of all strata of its language by one
number, the one that meets it: of all distributions within the bounds this is the nearest to the weights (the
I-projection of Csiszár 1975, "I-divergence geometry of probability distributions and minimization problems"). A stratum
never gets more than its cap; what it lacks goes to the others of its language, or to all where no bound holds.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from lmworks.corpus.balance.config import BalanceConfig, unknown_source
from lmworks.corpus.balance.quotas import quotas, temperature_weights

REST = ""  # the language of the strata that hold all languages without bounds
T = TypeVar("T", int, Fraction)


@dataclass(frozen=True, slots=True, order=True)
class Stratum:
    """A part of the corpus that has a quota of its own."""

    source: str
    language: str

    def __str__(self) -> str:
        return f"{self.source} in {self.language}" if self.language else self.source


@dataclass(frozen=True, slots=True)
class Targets:
    """The share and the quota of each stratum; amounts in the unit of the config.

    shares     of the corpus, if nothing were scarce; they sum to 1
    caps       the most that a stratum can give
    quotas     what it is to give; they sum to `total`
    scarcest   the one that sets the size of a corpus without `total`; None where `total` is set
    """

    total: int
    shares: Mapping[Stratum, Fraction]
    caps: Mapping[Stratum, int]
    quotas: Mapping[Stratum, int]
    scarcest: Stratum | None


def find_targets(config: BalanceConfig, amounts: Mapping[Stratum, Fraction]) -> Targets:
    """The quotas of strata that hold these amounts, each document counted as the factors say.

    ValueError, with the numbers, for sources that do not exist or lack a weight, for bounds that cannot be met, and for
    a total that there is not enough for.
    """
    weights = _weights(config, {each: amount for each, amount in amounts.items() if amount})
    bounds = {
        name: (Fraction(repr(share.at_least)), Fraction(repr(share.at_most)))
        for name, share in config.languages.items()
    }

    def proportional(strata: Sequence[Stratum], amount: Fraction) -> list[Fraction]:
        mass = sum((weights[each] for each in strata), Fraction(0))
        return [amount * weights[each] / mass for each in strata]

    def allocated(strata: Sequence[Stratum], amount: int) -> list[int]:
        return quotas([weights[each] for each in strata], [caps[each] for each in strata], amount)

    shares = _within_bounds(list(weights), bounds, Fraction(1), proportional)
    if (most := sum(shares.values())) < 1:
        raise ValueError(f"languages: the at_most of all that there are sum to {float(most):g}, less than 1: raise one")
    caps = {each: math.floor(config.epochs_of(each.source) * amounts[each]) for each in weights}
    scarcest, total = None, config.total
    if total is None:
        scarcest = min((each for each in caps if shares[each]), key=lambda each: (caps[each] / shares[each], each))
        total = min(math.floor(caps[scarcest] / shares[scarcest]), sum(caps.values()))
        if not total:
            raise ValueError(f"{scarcest.source} gives nothing within its max_epochs: raise it, or set its weight to 0")
    # Outward, by less than one: bounds that can be met by shares can be met by whole numbers then.
    whole = {name: (math.floor(low * total), math.ceil(high * total)) for name, (low, high) in bounds.items()}
    there = Counter[str]()  # within the caps, of each language
    for stratum, cap in caps.items():
        there[stratum.language] += cap
    reach = sum(min(cap, whole.get(name, (0, cap))[1]) for name, cap in there.items())
    asked = [(f"languages.{name}.at_least asks for", low, there[name]) for name, (low, _) in whole.items()]
    for what, wanted, amount in [*asked, ("total asks for", total, reach)]:
        if amount < wanted:
            raise ValueError(
                f"{what} {wanted:,} {config.unit}, there are {amount:,} within max_epochs and the bounds of languages: "
                "raise these, add a source, or ask for less"
            )
    return Targets(total, shares, caps, _within_bounds(list(weights), whole, total, allocated), scarcest)


def _weights(config: BalanceConfig, amounts: Mapping[Stratum, Fraction]) -> dict[Stratum, Fraction]:
    """The weights of the strata that are wanted: that of the source, divided as its amount is."""
    of_source: dict[str, Fraction] = {}
    for each, amount in amounts.items():
        of_source[each.source] = of_source.get(each.source, Fraction(0)) + amount
    for name, share in config.sources.items():
        if name not in of_source and share.weight != 0:
            raise ValueError(f"sources: {unknown_source(name, sorted(of_source))}")
    weights: Mapping[str, Fraction] = {
        name: Fraction(share.weight) for name, share in config.sources.items() if share.weight is not None
    }
    if weights:
        if without := ", ".join(sorted(of_source.keys() - weights.keys())):
            raise ValueError(f"give all sources a weight or none; without one: {without} (0 takes none of a source)")
    elif config.temperature == 1:
        weights = of_source  # exact, where the powers are floats
    else:
        unit = math.lcm(*(amount.denominator for amount in of_source.values()))
        sizes = [int(amount * unit) for amount in of_source.values()]
        weights = dict(zip(of_source, temperature_weights(sizes, config.temperature), strict=True))
    return {
        each: weights[each.source] * amounts[each] / of_source[each.source]
        for each in sorted(amounts)
        if weights[each.source]
    }


def _within_bounds(
    strata: Sequence[Stratum],
    bounds: Mapping[str, tuple[T, T]],
    total: T,
    allocate: Callable[[Sequence[Stratum], T], list[T]],
) -> dict[Stratum, T]:
    """Allocate a total to strata, each language within its bounds.

    With `allocate` alone, some languages lie outside. If bringing these to their bounds takes more than it frees, all
    others will have to get less than now, so that those below their least stay there: they are settled, and the rest is
    allocated again; and likewise for those above their most.
    """
    settled: dict[str, T] = {}
    while True:
        free = [each for each in strata if each.language not in settled]
        found = dict(zip(free, allocate(free, total - sum(settled.values())), strict=True)) if free else {}
        sums: dict[str, T] = {}
        for each in free:
            sums[each.language] = sums.get(each.language, 0 * total) + found[each]
        outside = {
            language: min(max(sums[language], low), high)
            for language, (low, high) in bounds.items()
            if language in sums and not low <= sums[language] <= high
        }
        if not outside:
            break
        more = sum(bound - sums[language] for language, bound in outside.items())
        for language, bound in outside.items():
            if more == 0 or (more > 0) == (bound > sums[language]):
                settled[language] = bound
    for language, amount in settled.items():
        own = [each for each in strata if each.language == language]
        found |= dict(zip(own, allocate(own, amount), strict=True))
    return found
