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
from lmworks.train.planning.model_shape import FAMILIES, explain_shape
from lmworks.train.planning.scaling_laws import DEFAULT_LAW, FLOPS_PER_PARAMETER_AND_TOKEN, find_law, training_flops
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
    planner = _Planner(config, vocabulary, available, seconds)
    if config.minutes is None:
        assert config.flops is not None
        ladder = planner.ladder(config.flops, planner.sizes(config.flops))
    elif seconds is None:
        raise ValueError("minutes need a machine that is measured: set flops instead")
    else:
        ladder = _for_time(60 * config.minutes, planner)
    for rung in ladder.rungs:
        if rung.derived.steps < LEAST_STEPS:
            raise ValueError(
                f"the run of {short(rung.parameters)} parameters on {short(rung.tokens)} tokens has "
                f"{rung.derived.steps} steps, fewer than {LEAST_STEPS}: give more minutes or flops, shorter sequences "
                "(length), or fewer sizes or lengths"
            )
    return ladder


def _for_time(seconds: float, planner: "_Planner") -> Ladder:
    """The ladder that takes so many seconds, from operations in proportion to the time that the last one takes."""
    flops = seconds * _FIRST_GUESS
    sizes = planner.sizes(flops)
    ladder = planner.ladder(flops, sizes)
    for number in range(2 * _ROUNDS):
        flops = ladder.flops * seconds / _measured(ladder)
        if number < _ROUNDS:  # then the sizes stay, and the tokens alone are made to fit
            sizes = planner.sizes(flops)
        ladder = planner.ladder(flops, sizes)
        if abs(_measured(ladder) / seconds - 1) < 0.01:
            break
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


@dataclass(frozen=True, slots=True)
class _Planner:
    config: SweepConfig
    vocabulary: int
    available: int
    seconds: Seconds | None

    @property
    def most_tokens(self) -> float:
        """Tokens of the longest runs."""
        return self.config.epochs * self.available

    def largest_flops(self, flops: float) -> float:
        """Operations of the run with the most of them: its share of the sum over all sizes and lengths."""
        r, counts = factor_of(self.config), (self.config.sizes, self.config.lengths)
        return flops / math.prod(sum(r**-step for step in range(count)) for count in counts)

    def sizes(self, flops: float) -> tuple[int, ...]:
        """Parameters of each size, the smallest first, that a model really has. ValueError where two are one."""
        config, r, steps = self.config, factor_of(self.config), self.config.sizes - 1
        if config.largest is not None:
            largest = float(config.largest)
        else:
            most = self.largest_flops(flops)
            middle = find_law(DEFAULT_LAW).law.allocate(most / r ** ((steps + config.lengths - 1) / 2))
            largest = max(
                middle.parameters * r ** (steps / 2),
                # What the data cannot take, larger models can; and nothing is smaller than one layer and the
                # vocabulary.
                most / (FLOPS_PER_PARAMETER_AND_TOKEN * self.most_tokens),
                FAMILIES[config.family].smallest(self.vocabulary, config.length) * r**steps,
            )
        sizes = tuple(self.real_size(largest / r**step) for step in range(steps, -1, -1))
        if len(set(sizes)) < len(sizes):
            listed = ", ".join(short(size) for size in sizes)
            raise ValueError(f"two of the sizes are one model, {listed}: take fewer sizes, or further apart (factor)")
        return sizes

    def real_size(self, parameters: float) -> int:
        """The parameters of a model that is found again when it is asked for by them: what is nearest to a number may
        have a neighbour that is nearer to its own."""
        size, before = round(parameters), 0
        while size != before:
            before = size
            size = explain_shape(size, self.config.family, self.vocabulary, self.config.length).parameters
            if size == round(parameters):  # two that ask for each other
                break
        return size

    def ladder(self, flops: float, sizes: tuple[int, ...]) -> Ladder:
        config, r, most = self.config, factor_of(self.config), self.largest_flops(flops)
        tokens = {
            (size, span): most
            / r ** (config.sizes + config.lengths - 2 - size - span)
            / (FLOPS_PER_PARAMETER_AND_TOKEN * sizes[size])
            for size in range(config.sizes)
            for span in range(config.lengths)
        }
        longest = max(tokens.values())
        shrunk = min(self.most_tokens / longest, 1.0)
        rungs = [self.rung(size, span, sizes[size], count * shrunk) for (size, span), count in tokens.items()]
        rungs.sort(key=lambda rung: (rung.flops, rung.size))
        limit = f"{longest * shrunk / self.available:.2f} times the data, at most {config.epochs:g} times"
        if shrunk < 0.99:
            limit += f"; of the operations that leaves {shrunk:.0%}: add text, raise epochs, or ask for less"
        lengths = f"{short(min(rung.tokens for rung in rungs))} to {short(max(rung.tokens for rung in rungs))}"
        law = f"their middle is where {DEFAULT_LAW} balances size and data"
        given, total = "as given" if config.largest is not None else law, sum(rung.flops for rung in rungs)
        counts = f"{config.sizes} sizes on {config.lengths} lengths, each {r:.2f} times the one before"
        share = f"of all runs; the dearest, held out, has {max(rung.flops for rung in rungs) / total:.0%}"
        reasons = (
            ("runs", f"{len(rungs)}", counts),
            (
                "sizes",
                f"{short(sizes[0])} to {short(sizes[-1])}",
                f"parameters; {given}, as far as there are models and text",
            ),
            ("lengths", lengths, f"tokens; {limit}"),
            ("operations", f"{total:.3g}", share),
        )
        return Ladder(tuple(rungs), reasons)

    def rung(self, size: int, span: int, parameters: int, tokens: float) -> Rung:
        derived = derive(self.config.run(parameters, round(tokens)), self.vocabulary, self.available)
        taken = None
        if self.seconds is not None:
            with contextlib.suppress(ValueError):
                taken = self.seconds(derived.model, tokens, derived.batch * self.config.length)
        return Rung(size, span, count_parameters(derived.model), round(tokens), derived, taken)
