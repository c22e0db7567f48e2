"""How much of each source and language is wanted: shares by weights within bounds, within what there is.

A cell is what a source has in a language that has bounds, or in all others. Its weight is that of its source times its
part of the source. A bound that is not met by these weights multiplies those of all cells of its language by one
number, the one that meets it: of all distributions within the bounds this is the nearest to the weights (the
I-projection of Csiszár 1975, "I-divergence geometry of probability distributions and minimization problems"). A cell
never gets more than its cap; what it lacks goes to the other cells of its language, or to all where no bound holds.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from lmworks.data.balance.config import BalanceConfig, LanguageShare, unknown_source, without_weight
from lmworks.data.mixing import quotas, temperature_weights

REST = ""  # the language of the cells that hold all languages without bounds


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """A part of the corpus that has a quota of its own."""

    source: str
    language: str


@dataclass(frozen=True, slots=True)
class Targets:
    """What is wanted of each cell; amounts in the unit of the config.

    shares     of the corpus, if nothing were scarce; they sum to 1
    caps       the most that a cell can give
    quotas     what it is to give; they sum to `total`
    scarcest   the cell that sets the size of a corpus without `total`; None where `total` is set
    """

    total: int
    shares: Mapping[Cell, Fraction]
    caps: Mapping[Cell, int]
    quotas: Mapping[Cell, int]
    scarcest: Cell | None

    @property
    def capped(self) -> list[Cell]:
        """Cells that give all they can, and less than their share."""
        return [cell for cell, cap in self.caps.items() if self.quotas[cell] == cap < self.total * self.shares[cell]]


def find_targets(config: BalanceConfig, amounts: Mapping[Cell, Fraction]) -> Targets:
    """The quotas of cells that hold these amounts, each document counted as the factors say.

    ValueError, with the numbers, for sources that do not exist or lack a weight, for bounds that cannot be met, and for
    a total that there is not enough for.
    """
    weights = _weights(config, {cell: amount for cell, amount in amounts.items() if amount})
    amounts = {cell: amounts[cell] for cell in weights}
    _check_languages(config.languages, amounts)
    shares = _shares(config.languages, weights)
    caps = {cell: math.floor(config.epochs_of(cell.source) * amount) for cell, amount in amounts.items()}
    if config.total is None:
        scarcest = min((cell for cell in caps if shares[cell]), key=lambda cell: (caps[cell] / shares[cell], cell))
        total = min(math.floor(caps[scarcest] / shares[scarcest]), sum(caps.values()))
        if not total:
            raise ValueError(f"{scarcest.source} gives nothing within its max_epochs: raise it, or set its weight to 0")
    else:
        scarcest, total = None, config.total
    return Targets(total, shares, caps, _quotas(config, weights, caps, total), scarcest)


# ---------------------------------------------------------------------------------------------------------------------
# Weights and shares


def _weights(config: BalanceConfig, amounts: Mapping[Cell, Fraction]) -> dict[Cell, Fraction]:
    """Of the cells that are wanted: the weight of the source, divided as its amount is."""
    of_source: dict[str, Fraction] = {}
    for cell, amount in amounts.items():
        of_source[cell.source] = of_source.get(cell.source, Fraction(0)) + amount
    sources = sorted(of_source)
    for name in config.sources:
        if name not in of_source:
            raise ValueError(f"sources: {unknown_source(name, sources)}")
    given = {name: share.weight for name, share in config.sources.items() if share.weight is not None}
    if given:
        if missing := [name for name in sources if name not in given]:
            raise ValueError(without_weight(missing))
        weights = {name: Fraction(weight) for name, weight in given.items()}
    else:
        weights = _by_size(of_source, config.temperature)
    return {
        cell: weights[cell.source] * amounts[cell] / of_source[cell.source]
        for cell in sorted(amounts)
        if weights[cell.source]
    }


def _by_size(of_source: Mapping[str, Fraction], temperature: float) -> Mapping[str, Fraction]:
    if temperature == 1:
        return of_source  # exact, where the powers are floats
    whole = math.lcm(*(amount.denominator for amount in of_source.values()))
    found = temperature_weights([int(amount * whole) for amount in of_source.values()], temperature)
    return dict(zip(of_source, found, strict=True))


def _check_languages(languages: Mapping[str, LanguageShare], amounts: Mapping[Cell, Fraction]) -> None:
    """ValueError for bounds that no corpus of these documents can meet, however large or small."""
    present = {cell.language for cell in amounts}
    for name, share in languages.items():
        if share.at_least and name not in present:
            raise ValueError(
                f"languages.{name}.at_least={share.at_least:g} cannot be met: no document is in {name}; data.annotate "
                "finds the language of documents that state none"
            )
    if present <= languages.keys():
        most = sum(Fraction(repr(languages[name].at_most)) for name in present)
        if most < 1:
            told = ", ".join(f"{name} {languages[name].at_most:g}" for name in sorted(present))
            raise ValueError(
                f"the most shares of all languages that there are sum to {float(most):g}, less than 1 ({told}): raise "
                "one"
            )


def _shares(languages: Mapping[str, LanguageShare], weights: Mapping[Cell, Fraction]) -> dict[Cell, Fraction]:
    """Weights within the bounds, as shares of 1."""
    bounds = {
        name: (Fraction(repr(share.at_least)), Fraction(repr(share.at_most))) for name, share in languages.items()
    }

    def proportional(cells: Sequence[Cell], amount: Fraction) -> list[Fraction]:
        mass = sum((weights[cell] for cell in cells), Fraction(0))
        return [amount * weights[cell] / mass for cell in cells]

    return _within_bounds(list(weights), bounds, Fraction(1), proportional)


# ---------------------------------------------------------------------------------------------------------------------
# Quotas


def _quotas(
    config: BalanceConfig, weights: Mapping[Cell, Fraction], caps: Mapping[Cell, int], total: int
) -> dict[Cell, int]:
    bounds = {name: _whole_bounds(share, total) for name, share in config.languages.items()}
    _check_enough(config, caps, bounds, total)

    def allocate(cells: Sequence[Cell], amount: int) -> list[int]:
        return quotas([weights[cell] for cell in cells], [caps[cell] for cell in cells], amount)

    return _within_bounds(list(weights), bounds, total, allocate)


def _whole_bounds(share: LanguageShare, total: int) -> tuple[int, int]:
    """Outward, by less than one: bounds that can be met by shares can be met by whole numbers then."""
    low, high = Fraction(repr(share.at_least)) * total, Fraction(repr(share.at_most)) * total
    return math.floor(low), math.ceil(high)


def _check_enough(
    config: BalanceConfig, caps: Mapping[Cell, int], bounds: Mapping[str, tuple[int, int]], total: int
) -> None:
    """ValueError where the caps leave too little for the total, or for the least of a language, or the bounds do."""
    unit = config.unit
    most = sum(caps.values())
    if most < total:
        of_source: dict[str, int] = {}
        for cell, cap in caps.items():
            of_source[cell.source] = of_source.get(cell.source, 0) + cap
        told = ", ".join(f"{name} {cap:,}" for name, cap in of_source.items())
        raise ValueError(
            f"total asks for {total:,} {unit}, the sources give {most:,} within their max_epochs ({told}): raise "
            "max_epochs, add a source, or ask for less"
        )
    reach = 0
    for language in sorted({cell.language for cell in caps}):
        there = sum(cap for cell, cap in caps.items() if cell.language == language)
        low, high = bounds.get(language, (0, total))
        if there < low:
            raise ValueError(
                f"languages.{language}.at_least={config.languages[language].at_least:g} asks for {low:,} of {total:,} "
                f"{unit}, there are {there:,} within max_epochs: lower it, raise max_epochs, or ask for a smaller total"
            )
        reach += min(there, high)
    if reach < total:
        raise ValueError(
            f"total asks for {total:,} {unit}, the most shares of the languages leave {reach:,}: raise at_most of one, "
            "raise max_epochs, or ask for less"
        )


T = TypeVar("T", int, Fraction)


def _within_bounds(
    cells: Sequence[Cell], bounds: Mapping[str, tuple[T, T]], total: T, allocate: Callable[[Sequence[Cell], T], list[T]]
) -> dict[Cell, T]:
    """Allocate a total to cells, each language within its bounds.

    With `allocate` alone, some languages lie outside. If bringing these to their bounds takes more than it frees, all
    others will have to get less than now, so that those below their least stay there: they are settled, and the rest is
    allocated anew; and likewise for those above their most.
    """
    settled: dict[str, T] = {}
    while True:
        free = [cell for cell in cells if cell.language not in settled]
        left = total - sum(settled.values())
        found = dict(zip(free, allocate(free, left), strict=True)) if free else {}
        sums: dict[str, T] = {}
        for cell in free:
            sums[cell.language] = sums[cell.language] + found[cell] if cell.language in sums else found[cell]
        outside = {
            language: min(max(amount, bounds[language][0]), bounds[language][1])
            for language, amount in sums.items()
            if language in bounds and not bounds[language][0] <= amount <= bounds[language][1]
        }
        if not outside:
            break
        more = sum(bound - sums[language] for language, bound in outside.items())
        settled |= {
            language: bound
            for language, bound in outside.items()
            if more == 0 or (more > 0) == (bound > sums[language])
        }  # type: ignore[assignment]
    for language, amount in settled.items():
        mine = [cell for cell in cells if cell.language == language]
        found |= dict(zip(mine, allocate(mine, amount), strict=True))
    return found
