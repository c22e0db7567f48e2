"""The runs of a sweep: sizes times lengths, for a budget of operations or minutes. Free of torch.

Sizes and lengths rise by one factor r, so that the budgets of the runs lie on a ladder, too: C of the dearest, C / r,
C / r², … Run (i, j), of the i-th size and the j-th length, has the budget of all runs with the same i + j, exactly: its
tokens are C / (6 N) for the parameters N that a model of this size really has. So the same runs serve all three
approaches of Hoffmann et al. 2022: each size on several lengths, several sizes at one budget, and both varied alone.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass

from lmworks.model.config import ModelConfig
from lmworks.model.model_costs import count_parameters
from lmworks.train.derived_settings import LEAST_STEPS, Derived, derive
from lmworks.train.planning.model_shape import explain_shape, smallest_parameters
from lmworks.train.planning.published_laws import DEFAULT_LAW, find_law
from lmworks.train.planning.scaling_laws import FLOPS_PER_PARAMETER_AND_TOKEN, training_flops
from lmworks.train.planning.units import short
from lmworks.train.sweep.config import SweepConfig

_FIRST_GUESS = 5e10  # operations a second, before anything is measured
_ROUNDS = 3  # of operations → sizes → speed → operations

# Seconds of training a model on so many tokens, in batches of so many; ValueError where they cannot be measured.
Seconds = Callable[[ModelConfig, float, float], float]


@dataclass(frozen=True, slots=True)
class Rung:
    """One run: its place among sizes and lengths, from 0, and what is trained. `seconds` as measured for its shape;
    None where the machine was not measured."""

    size: int
    span: int
    parameters: int
    tokens: int
    derived: Derived
    seconds: float | None = None

    @property
    def name(self) -> str:
        """Such as N2-D3: the second size on the third length."""
        return f"N{self.size + 1}-D{self.span + 1}"

    @property
    def flops(self) -> float:
        return training_flops(self.parameters, self.tokens)


@dataclass(frozen=True, slots=True)
class Ladder:
    """The runs, those of the least operations first, and (what, value, why) of what they follow from."""

    rungs: tuple[Rung, ...]
    reasons: tuple[tuple[str, str, str], ...]

    @property
    def flops(self) -> float:
        return sum(rung.flops for rung in self.rungs)

    @property
    def seconds(self) -> float | None:
        """Seconds of all runs; None where one was not measured."""
        known = [rung.seconds for rung in self.rungs if rung.seconds is not None]
        return sum(known) if len(known) == len(self.rungs) else None


def plan_ladder(config: SweepConfig, vocabulary: int, available: int, seconds: Seconds | None = None) -> Ladder:
    """The runs for a vocabulary of so many tokens and so many `available` tokens of text.

    `seconds` measures this machine, and is needed for `minutes` alone. ValueError or LookupError, with the
    fix, for what does not go together.
    """
    corpus = _Corpus(vocabulary, available, config.epochs * available)
    if config.flops is not None:
        return _checked(_ladder(config, config.flops, _sizes(config, config.flops, corpus), corpus, seconds))
    assert config.minutes is not None
    if seconds is None:
        raise ValueError("minutes need a machine that is measured: set flops instead")
    wanted = 60 * config.minutes
    sizes = _sizes(config, wanted * _FIRST_GUESS, corpus)
    ladder = _ladder(config, wanted * _FIRST_GUESS, sizes, corpus, seconds)
    for number in range(2 * _ROUNDS):
        flops = ladder.flops * wanted / _measured(ladder)
        if number < _ROUNDS:  # then the sizes stay, and the tokens alone are made to fit
            sizes = _sizes(config, flops, corpus)
        ladder = _ladder(config, flops, sizes, corpus, seconds)
        if abs(_measured(ladder) / wanted - 1) < 0.01:
            break
    return _checked(ladder)


@dataclass(frozen=True, slots=True)
class _Corpus:
    """`most`: tokens of the longest runs."""

    vocabulary: int
    available: int
    most: float


def _checked(ladder: Ladder) -> Ladder:
    for rung in ladder.rungs:
        if rung.derived.steps < LEAST_STEPS:
            raise ValueError(
                f"the run of {short(rung.parameters)} parameters on {short(rung.tokens)} tokens has "
                f"{rung.derived.steps} steps, fewer than {LEAST_STEPS}: give more minutes or flops, shorter sequences "
                "(length), or fewer sizes or lengths"
            )
    return ladder


def _measured(ladder: Ladder) -> float:
    if ladder.seconds is None:
        raise ValueError("this machine cannot be measured while something else runs: wait, or set flops instead")
    return ladder.seconds


def factor_of(config: SweepConfig) -> float:
    """Between two sizes, and between two lengths."""
    if config.smallest is None or config.largest is None:
        return config.factor
    return (config.largest / config.smallest) ** (1 / (config.sizes - 1))


def _sizes(config: SweepConfig, flops: float, corpus: _Corpus) -> tuple[int, ...]:
    """Parameters of each size, the smallest first, that a model really has. ValueError where two are one."""
    r, steps = factor_of(config), config.sizes - 1
    if config.largest is not None:
        largest = float(config.largest)
    else:
        dearest = _dearest(config, flops)
        middle = find_law(DEFAULT_LAW).law.allocate(dearest / r ** ((steps + config.lengths - 1) / 2))
        largest = middle.parameters * r ** (steps / 2)
        # What the data cannot take, larger models can; and nothing is smaller than one layer and the vocabulary.
        largest = max(largest, dearest / (FLOPS_PER_PARAMETER_AND_TOKEN * corpus.most))
        largest = max(largest, smallest_parameters(config.family, corpus.vocabulary, config.length) * r**steps)
    wanted = [largest / r**step for step in range(steps, -1, -1)]
    sizes = tuple(_real(n, config, corpus) for n in wanted)
    if len(set(sizes)) < len(sizes):
        listed = ", ".join(short(size) for size in sizes)
        raise ValueError(f"two of the sizes are one model, {listed}: take fewer sizes, or further apart (factor)")
    return sizes


def _real(parameters: float, config: SweepConfig, corpus: _Corpus) -> int:
    """The parameters of a model that is found again when it is asked for by them: what is nearest to a number may have
    a neighbour that is nearer to its own."""
    found, before = round(parameters), 0
    while found != before:
        before = found
        found = explain_shape(found, config.family, corpus.vocabulary, config.length).parameters
        if found == round(parameters):  # two that ask for each other
            break
    return found


def _dearest(config: SweepConfig, flops: float) -> float:
    """Operations of the run with the most of them: its share of the sum over all sizes and lengths."""
    r = factor_of(config)
    return flops / math.prod(sum(r**-step for step in range(count)) for count in (config.sizes, config.lengths))


def _ladder(
    config: SweepConfig, flops: float, sizes: tuple[int, ...], corpus: _Corpus, seconds: Seconds | None
) -> Ladder:
    r, dearest = factor_of(config), _dearest(config, flops)
    places = [(size, span) for size in range(config.sizes) for span in range(config.lengths)]
    tokens = {
        (size, span): dearest
        / r ** (config.sizes + config.lengths - 2 - size - span)
        / (FLOPS_PER_PARAMETER_AND_TOKEN * sizes[size])
        for size, span in places
    }
    longest = max(tokens.values())
    shrunk = min(corpus.most / longest, 1.0)
    rungs = [_rung(config, place, sizes[place[0]], tokens[place] * shrunk, corpus, seconds) for place in places]
    rungs.sort(key=lambda rung: (rung.flops, rung.size))
    limit = f"{longest * shrunk / corpus.available:.2f} times the data, at most {config.epochs:g} times"
    if shrunk < 0.99:
        limit += f"; of the operations that leaves {shrunk:.0%}: add text, raise epochs, or ask for less"
    lengths = f"{short(min(rung.tokens for rung in rungs))} to {short(max(rung.tokens for rung in rungs))}"
    given = "as given" if config.largest is not None else f"their middle is where {DEFAULT_LAW} balances size and data"
    share = max(rung.flops for rung in rungs) / sum(rung.flops for rung in rungs)
    reasons = (
        (
            "runs",
            f"{len(rungs)}",
            f"{config.sizes} sizes on {config.lengths} lengths, each {r:.2f} times the one before",
        ),
        (
            "sizes",
            f"{short(sizes[0])} to {short(sizes[-1])}",
            f"parameters; {given}, as far as there are models and text",
        ),
        ("lengths", lengths, f"tokens; {limit}"),
        (
            "operations",
            f"{sum(rung.flops for rung in rungs):.3g}",
            f"of all runs; the dearest, held out, has {share:.0%}",
        ),
    )
    return Ladder(tuple(rungs), reasons)


def _rung(
    config: SweepConfig,
    place: tuple[int, int],
    parameters: int,
    tokens: float,
    corpus: _Corpus,
    seconds: Seconds | None,
) -> Rung:
    derived = derive(config.run(parameters, round(tokens)), corpus.vocabulary, corpus.available)
    taken = None
    if seconds is not None:
        with contextlib.suppress(ValueError):
            taken = seconds(derived.model, tokens, derived.batch * config.length)
    return Rung(*place, count_parameters(derived.model), round(tokens), derived, taken)
