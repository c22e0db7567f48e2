"""Results of an experiment: what each arm did, how sure that is at this look, and what to do, in words.

First the split is checked: where units did not come in their shares, nothing is read. Then the primary metric by a
confidence sequence, which may be looked at every day; guardrails as non-inferiority, which share alpha.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from lmworks.monitor.log import Reader
from lmworks.monitor.unit_metrics import UnitMetric, UnitTable, parse_metric, strangers, unit_table
from lmworks.records import Experiment

if TYPE_CHECKING:
    import numpy as np

_LOOKS = 60  # of a sequence that is drawn
Guard = Literal["", "holds", "breached", "open"]


@dataclass(frozen=True, slots=True)
class Effect:
    """An arm against the control, in one metric.

    `low` and `high` are the ends of the difference's confidence sequence at this look, None where there is too little:
    `missing` says of what. `sequence` has (units, difference, low, high) at some looks. `spread` is the sum of the
    arms' variances of a unit, `reduced` the share of it that the units' past took away.
    """

    metric: str
    arm: str
    values: tuple[float, float]  # of control and arm
    difference: float
    low: float | None
    high: float | None
    units: tuple[int, int]
    lower_is_better: bool
    margin: float | None = None  # of a guardrail
    missing: str = ""
    reduced: float = 0.0
    spread: float = 0.0
    planned: float = 0.0
    sequence: tuple[tuple[int, float, float, float], ...] = ()

    @property
    def gain(self) -> tuple[float, float] | None:
        """The interval, turned so that more is better."""
        if self.low is None or self.high is None:
            return None
        return (-self.high, -self.low) if self.lower_is_better else (self.low, self.high)

    @property
    def guard(self) -> Guard:
        if self.margin is None:
            return ""
        if (gain := self.gain) is None:
            return "open"
        return "holds" if gain[0] > -self.margin else "breached" if gain[1] < -self.margin else "open"


@dataclass(frozen=True, slots=True)
class Decision:
    kind: Literal["stop", "extend", "cannot tell"]
    words: str
    harmful: bool = False  # a guardrail is breached, or the primary metric is worse, beyond doubt


@dataclass(frozen=True, slots=True)
class Readout:
    """`assigned` units by arm, `open` of them within their window; `mismatch` is p of the sample ratio; `strangers`
    are outcomes of units that were never assigned. Without effects where the split is wrong."""

    time: float
    assigned: dict[str, int]
    open: int
    mismatch: float
    strangers: int
    effects: tuple[Effect, ...]
    decision: Decision

    @property
    def primary(self) -> tuple[Effect, ...]:
        return tuple(one for one in self.effects if one.margin is None)


def read_out(reader: Reader, experiment: Experiment, now: float) -> Readout:
    """Read what is known of an experiment at a time."""
    from lmworks.statistics.experiments import MISMATCH, sample_ratio

    table = unit_table(reader, experiment, now)
    shares = [arm["share"] for arm in experiment.arms.values()]
    mismatch = 1.0 if experiment.shadow else sample_ratio(table.assigned, shares)
    counts = dict(zip(experiment.arms, table.assigned, strict=True))
    effects: list[Effect] = []
    if mismatch >= MISMATCH:
        others = len(experiment.arms) - 1
        guards = 2 * experiment.alpha / max(1, len(experiment.guardrails) * others)  # one-sided
        for number in range(1, others + 1):
            effects.append(_effect(experiment, table, experiment.metric, number, experiment.alpha / others))
            effects += [
                _effect(experiment, table, name, number, guards, margin)
                for name, margin in experiment.guardrails.items()
            ]
        decision = decide(experiment, effects)
    else:
        came = ", ".join(f"{arm}: {count}" for arm, count in counts.items())
        decision = Decision(
            "cannot tell",
            f"The units did not come to the arms in their shares ({came}; p = {mismatch:.2g}): something loses or adds "
            "units in one of them. Nothing is read until that is found and the experiment begins anew.",
        )
    unknown_units = 0 if experiment.shadow else strangers(reader, experiment)
    return Readout(now, counts, table.open_, mismatch, unknown_units, tuple(effects), decision)


def _effect(
    experiment: Experiment, table: UnitTable, name: str, arm: int, alpha: float, margin: float | None = None
) -> Effect:
    import numpy as np

    from lmworks.statistics.confidence_sequences import difference_sequence
    from lmworks.statistics.experiments import cuped, linearised

    metric, arms = parse_metric(name), list(experiment.arms)
    (top, below), places = table.sums[name], np.arange(len(table.arms))
    chosen = [(table.arms == number) & (below > 0) for number in (0, arm)]
    parts = [(top[one], below[one]) for one in chosen]
    units = (int(chosen[0].sum()), int(chosen[1].sum()))
    lacking = [arms[number] for number, count in zip((0, arm), units, strict=True) if not count]
    blank = Effect(name, arms[arm], (math.nan, math.nan), math.nan, None, None, units, metric.lower_is_better, margin)
    if lacking:
        return replace(blank, missing=f"not enough data: {lacking[0]} has no unit with {_what(metric)} yet")
    values = [linearised(*part) for part in parts]
    means = (float(values[0].mean()), float(values[1].mean()))
    bounded = all((part[1] == 1).all() and part[0].min() >= 0 and part[0].max() <= 1 for part in parts)
    reduced = 0.0
    if name in table.before and min(units) >= 100:
        past = [_past(table.before[name], one, metric) for one in chosen]
        values, reduced = cuped(values, past)
    order = np.concatenate([places[one] for one in chosen]).argsort()
    is_second = np.repeat([0, 1], units)[order]
    looks = np.stack([np.cumsum(1 - is_second), np.cumsum(is_second)], axis=1)
    looks = looks[np.unique(np.linspace(0, len(looks) - 1, _LOOKS).round().astype(int))]
    expected = experiment.planned_units * sum(units) / max(1, len(table.arms)) or sum(units)
    found = difference_sequence(values[0], values[1], looks, expected, alpha, bounded=bounded)
    difference, low, high = (float(number) for number in found[-1])
    of_looks = [
        (int(look.sum()), *map(float, row)) for look, row in zip(looks, found, strict=True) if np.isfinite(row).all()
    ]
    known = math.isfinite(low)
    few = f"not enough data: an interval of {name} needs 100 units in each arm, there are {units[0]} and {units[1]}"
    return replace(
        blank,
        values=means,
        difference=difference,
        low=low if known else None,
        high=high if known else None,
        missing="" if known else few,
        reduced=reduced,
        spread=sum(max(float(one.var()), 1 / (len(one) + 1)) for one in values),
        planned=float(expected),
        sequence=tuple(of_looks),  # type: ignore[arg-type]
    )


def _past(sums: "np.ndarray", chosen: "np.ndarray", metric: UnitMetric) -> "np.ndarray":
    """A unit's value before its assignment; NaN where there is none."""
    import numpy as np

    top, below = sums[:, chosen]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, top / below, np.nan)


def _what(metric: UnitMetric) -> str:
    return f"an outcome {metric.outcome}" if metric.outcome else "a thumb" if "thumbs" in metric.name else "an answer"


def decide(experiment: Experiment, effects: Sequence[Effect]) -> Decision:
    """Stop, extend or cannot tell, for the arm that does best; harm to any arm's guardrail comes first."""
    primary, guarded = [one for one in effects if one.margin is None], len(experiment.guardrails)
    for one in effects:
        if one.guard == "breached":
            words = f"{one.arm} breaches the guardrail {one.metric}: {stated(one)}; {one.margin:g} worse was allowed."
            return Decision("stop", words, True)
    if lacking := [one.missing for one in primary if one.missing]:
        return Decision("cannot tell", f"{lacking[0][0].upper()}{lacking[0][1:]}.")
    for one in primary:
        if not one.gain or one.gain[0] <= 0:
            continue
        waiting = [guard for guard in effects if guard.arm == one.arm and guard.guard == "open"]
        if not waiting:
            return Decision(
                "stop", f"{one.arm} is better: {stated(one)}{'; every guardrail holds' if guarded else ''}."
            )
        more = max(_units_missing(guard, guard.margin or 0.0) for guard in waiting)
        names = " and ".join(guard.metric for guard in waiting)
        words = f"{one.arm} is better ({stated(one)}), but not surely no worse in {names}: about {more} more units in"
        return Decision("extend", f"{words} each arm.")
    if all(one.gain and one.gain[1] < 0 for one in primary):
        return Decision("stop", f"{primary[0].arm} is worse: {stated(primary[0])}.", True)
    least = experiment.minimum_effect
    if least and all(one.gain and one.gain[0] > -least and one.gain[1] < least for one in primary):
        return Decision("stop", f"There is no difference that matters, of {least:g} or more: {stated(primary[0])}.")
    best = max(primary, key=lambda one: -one.difference if one.lower_is_better else one.difference)
    if least:
        half = max(least - abs(best.difference), min(abs(best.difference), least))  # what would decide, if that stays
        missing = f"About {_units_missing(best, half)} more units in each arm make the interval ±{half:.3g}"
    else:
        planned = experiment.planned_units
        missing = f"{max(0, planned - sum(best.units))} of {planned} planned units are missing"
    return Decision("extend", f"Nothing is sure yet: {stated(best)}. {missing}.")


def _units_missing(effect: Effect, half: float) -> int:
    from lmworks.statistics.experiments import units_for_width

    if not effect.spread or not half:
        return 0
    needed = units_for_width(effect.spread, half, max(effect.planned, 2.0), 0.05)
    return max(1, needed - min(effect.units))


def stated(effect: Effect) -> str:
    """An effect in words, with its interval."""
    first, second = effect.values
    interval = "" if effect.low is None else f" [{effect.low:+.3f}, {effect.high:+.3f}]"
    over = f"over {sum(effect.units)} units"
    return f"{effect.metric} {second:.3f} against {first:.3f}, {effect.difference:+.3f}{interval} {over}"


def plan(experiment: Experiment, baseline: float, units_a_day: float, spread: float | None = None) -> str:
    """How many units it takes to find the experiment's minimum effect, and how long that is, in plain words.

    `baseline` is the metric as it is; `spread` the sum of the variances of a unit's value, of a share by default.
    """
    from lmworks.statistics.experiments import detectable, units_needed, units_watched

    effect, arms = experiment.minimum_effect, len(experiment.arms)
    if not effect:
        raise ValueError("set minimum_effect: the smallest difference that would matter to you")
    other = min(1.0, max(0.0, baseline + effect))
    spread = baseline * (1 - baseline) + other * (1 - other) if spread is None else spread
    alpha = experiment.alpha / (arms - 1)
    fixed, watched = units_needed(spread, effect, alpha), units_watched(spread, effect, alpha)
    days = watched * arms / units_a_day if units_a_day > 0 else math.inf
    long = f"{days:.0f} days at {units_a_day:g} units a day" if math.isfinite(days) else "no end: no unit came yet"
    text = (
        f"To tell {experiment.metric} of {other:g} from {baseline:g}, four times in five, takes {watched} units in "
        f"each of {arms} arms while you may look every day ({fixed} if you looked once, at the end): {long}."
    )
    if days > 60:
        least = detectable(spread, max(1, int(units_a_day * 30 / arms)), alpha)
        text += f" That is long. A month of this traffic tells differences of {least:.3f} or more, looked at once."
    return text
