"""Results of an experiment: what each arm did, how sure that is at this look, and what to do, in words.

First the split is checked: where units did not come in their shares, nothing is read. Then the primary metric by a
confidence sequence, which may be looked at every day; guardrails as non-inferiority, which share alpha.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lmworks.monitor.log import Reader
from lmworks.monitor.unit_metrics import UnitTable, parse_metric, unit_table
from lmworks.records import Experiment
from lmworks.statistics.confidence_sequences import difference_sequence
from lmworks.statistics.experiments import (
    MISMATCH,
    cuped,
    detectable,
    linearised,
    sample_ratio,
    units_for_width,
    units_needed,
)

_LOOKS = 60  # of a sequence that is drawn


@dataclass(frozen=True, slots=True)
class Effect:
    """An arm against the control, in one metric; `units` and `values` are of control and arm.

    `interval` is the confidence sequence of the difference at this look, None where there is too little: `missing` says
    of what. `sequence` has (units, difference, low, high) at some looks. `spread` is the sum of the arms' variances of
    a unit, `reduced` the share of it that the units' past took away.
    """

    metric: str
    arm: str
    lower_is_better: bool
    units: tuple[int, int]
    margin: float | None = None  # of a guardrail
    missing: str = ""
    values: tuple[float, float] = (math.nan, math.nan)
    difference: float = math.nan
    interval: tuple[float, float] | None = None
    reduced: float = 0.0
    spread: float = 0.0
    planned: float = 0.0
    sequence: tuple[tuple[float, ...], ...] = ()

    @property
    def gain(self) -> tuple[float, float] | None:
        """The interval, turned so that more is better."""
        if self.interval and self.lower_is_better:
            return -self.interval[1], -self.interval[0]
        return self.interval

    @property
    def guard(self) -> Literal["", "holds", "breached", "open"]:
        if self.margin is None:
            return ""
        low, high = self.gain or (-math.inf, math.inf)
        return "holds" if low > -self.margin else "breached" if high < -self.margin else "open"

    def __str__(self) -> str:
        first, second = self.values
        interval = "" if self.interval is None else f" [{self.interval[0]:+.3f}, {self.interval[1]:+.3f}]"
        over = f"over {sum(self.units)} units"
        return f"{self.metric} {second:.3f} against {first:.3f}, {self.difference:+.3f}{interval} {over}"


@dataclass(frozen=True, slots=True)
class Decision:
    kind: Literal["stop", "extend", "cannot tell"]
    words: str
    harmful: bool = False  # a guardrail is breached, or the primary metric is worse, beyond doubt


@dataclass(frozen=True, slots=True)
class Result:
    """`assigned` units by arm, `open` of them within their window; `mismatch` is p of the sample ratio. Without effects
    where the split is wrong."""

    time: float
    assigned: dict[str, int]
    open: int
    mismatch: float
    effects: tuple[Effect, ...]
    decision: Decision

    @property
    def primary(self) -> tuple[Effect, ...]:
        return tuple(effect for effect in self.effects if effect.margin is None)


def read_out(reader: Reader, experiment: Experiment, now: float) -> Result:
    """Read what is known of an experiment at a time."""
    table = unit_table(reader, experiment, now)
    shares = [arm["share"] for arm in experiment.arms.values()]
    mismatch = 1.0 if experiment.shadow else sample_ratio(table.assigned, shares)
    counts = dict(zip(experiment.arms, table.assigned, strict=True))
    effects: list[Effect] = []
    if mismatch >= MISMATCH:
        comparisons, guardrails = len(experiment.arms) - 1, experiment.guardrails
        shared = 2 * experiment.alpha / max(1, len(guardrails) * comparisons)  # one-sided
        for number in range(1, comparisons + 1):
            effects.append(_effect(experiment, table, experiment.metric, number, experiment.alpha / comparisons))
            for name, margin in guardrails.items():
                effects.append(_effect(experiment, table, name, number, shared, margin))
        decision = decide(experiment, effects)
    else:
        came = ", ".join(f"{arm}: {count}" for arm, count in counts.items())
        decision = Decision(
            "cannot tell",
            f"The units did not come to the arms in their shares ({came}; p = {mismatch:.2g}): something loses or adds "
            "units in one of them. Nothing is read until that is found and the experiment restarts.",
        )
    return Result(now, counts, table.open_, mismatch, tuple(effects), decision)


def _effect(
    experiment: Experiment, table: UnitTable, name: str, arm: int, alpha: float, margin: float | None = None
) -> Effect:
    """The effect of the arm of this number, at this look and at some before it."""
    metric, arms, (top, below) = parse_metric(name), list(experiment.arms), table.sums[name]
    chosen = [np.flatnonzero((table.arms == number) & (below > 0)) for number in (0, arm)]
    units = len(chosen[0]), len(chosen[1])
    effect = Effect(name, arms[arm], metric.lower_is_better, units, margin)
    if not min(units):
        what = f"an outcome {metric.outcome}" if metric.outcome else "a thumb" if "thumbs" in name else "an answer"
        young = f", and {table.open_} are within their window" if table.open_ else ""
        lacking = arms[0 if not units[0] else arm]
        return replace(effect, missing=f"Not enough data: {lacking} has no unit with {what} yet{young}")
    values, reduced = [linearised(top[rows], below[rows]) for rows in chosen], 0.0
    means = float(values[0].mean()), float(values[1].mean())
    numbers = top[np.concatenate(chosen)]
    bounded = (below[np.concatenate(chosen)] == 1).all() and numbers.min() >= 0 and numbers.max() <= 1
    if name in table.before and min(units) >= 100:
        of_past, divisors = table.before[name]
        past = np.divide(of_past, divisors, out=np.full(len(divisors), np.nan), where=divisors > 0)
        values, reduced = cuped(values, [past[rows] for rows in chosen])
    is_second = np.repeat([0, 1], units)[np.concatenate(chosen).argsort()]
    looks = np.stack([np.cumsum(1 - is_second), np.cumsum(is_second)], axis=1)
    looks = looks[np.unique(np.linspace(0, len(looks) - 1, _LOOKS).round().astype(int))]
    planned = experiment.planned_units * sum(units) / len(table.arms) or sum(units)
    sequence = difference_sequence(values[0], values[1], looks, planned, alpha, bounded=bool(bounded))
    known = np.isfinite(sequence.sum(axis=1))
    few = f"Not enough data: an interval of {name} needs 100 units in each arm, there are {units[0]} and {units[1]}"
    return replace(
        effect, missing="" if known[-1] else few, values=means, difference=float(sequence[-1, 0]),
        interval=(float(sequence[-1, 1]), float(sequence[-1, 2])) if known[-1] else None, reduced=reduced,
        spread=sum(max(float(sample.var()), 1 / (len(sample) + 1)) for sample in values), planned=float(planned),
        sequence=tuple(map(tuple, np.column_stack([looks.sum(axis=1), sequence])[known].tolist())),
    )  # fmt: skip


def decide(experiment: Experiment, effects: Sequence[Effect]) -> Decision:
    """Stop, extend or cannot tell, for the arm that does best; harm to any arm's guardrail comes first."""
    for guard in effects:
        if guard.guard == "breached":
            words = f"{guard.arm} breaches the guardrail {guard.metric}: {guard}; {guard.margin:g} worse was allowed."
            return Decision("stop", words, True)
    primary, least = [(effect, effect.gain) for effect in effects if effect.margin is None], experiment.minimum_effect
    for effect, _ in primary:
        if effect.missing:
            return Decision("cannot tell", f"{effect.missing}.")
    known = [(effect, gain) for effect, gain in primary if gain]
    for effect, gain in known:
        if gain[0] <= 0:
            continue
        waiting = [guard for guard in effects if guard.arm == effect.arm and guard.guard == "open"]
        if not waiting:
            holds = "; every guardrail holds" if experiment.guardrails else ""
            return Decision("stop", f"{effect.arm} is better: {effect}{holds}.")
        more = max(_units_missing(guard, guard.margin or 0.0) for guard in waiting)
        names = " and ".join(guard.metric for guard in waiting)
        words = f"{effect.arm} is better ({effect}), but not surely no worse in {names}: about {more} more units in"
        return Decision("extend", f"{words} each arm.")
    first, _ = known[0]
    if all(gain[1] < 0 for _, gain in known):
        return Decision("stop", f"{first.arm} is worse: {first}.", True)
    if least and all(-least < gain[0] and gain[1] < least for _, gain in known):
        return Decision("stop", f"There is no difference that matters, of {least:g} or more: {first}.")
    best = max((e for e, _ in known), key=lambda effect: effect.difference * (-1 if effect.lower_is_better else 1))
    if least:
        half = max(least - abs(best.difference), min(abs(best.difference), least))  # what would decide, if that stays
        missing = f"About {_units_missing(best, half)} more units in each arm make the interval ±{half:.3g}"
    else:
        planned = experiment.planned_units
        missing = f"{max(0, planned - sum(best.units))} of {planned} planned units are missing"
    return Decision("extend", f"Nothing is sure yet: {best}. {missing}.")


def _units_missing(effect: Effect, half: float) -> int:
    if not effect.spread or not half:
        return 0
    return max(1, units_for_width(effect.spread, half, max(effect.planned, 2.0), 0.05) - min(effect.units))


def plan(experiment: Experiment, baseline: float, units_a_day: float) -> str:
    """How many units it takes to find the experiment's minimum effect, and how long that is, in plain words; `baseline`
    is the metric, a share, as it is."""
    effect, arms = experiment.minimum_effect, len(experiment.arms)
    if not effect:
        raise ValueError("set minimum_effect: the smallest difference that would matter to you")
    target = min(1.0, max(0.0, baseline + effect))
    spread, alpha = baseline * (1 - baseline) + target * (1 - target), experiment.alpha / (arms - 1)
    fixed, watched = (units_needed(spread, effect, alpha, watched=watching) for watching in (False, True))
    days = watched * arms / units_a_day if units_a_day > 0 else math.inf
    long = f"{days:.0f} days at {units_a_day:g} units a day" if math.isfinite(days) else "no end: no unit came yet"
    text = (
        f"To tell {experiment.metric} of {target:g} from {baseline:g}, four times in five, takes {watched} units in "
        f"each of {arms} arms while you may look every day ({fixed} if you looked once, at the end): {long}."
    )
    if days > 60:
        least = detectable(spread, max(1, int(units_a_day * 30 / arms)), alpha)
        text += f" That is long. A month of this traffic tells differences of {least:.3f} or more, looked at once."
    return text
