"""The report of a training run: the reasons for its settings, its loss curve, and samples of the model."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmworks.progress import readable_duration
from lmworks.report import Figure, Section, Table, as_svg, new_axes
from lmworks.train.config import PretrainConfig
from lmworks.train.derived_settings import Derived
from lmworks.train.held_out import CONTINUED, TEMPERATURE
from lmworks.train.run_log import read_log

_RISE = 0.02  # nats of held-out loss above its best that are over-fitting
_NOTHING = 0.0005  # nats of training loss below which three digits show 0
FEW_STEPS = 20  # fewer move a model hardly anywhere
NOT_HELD_OUT = "nothing is held out: whether more was learned than these rows by heart is not measured; add rows"
TARGETS = ("minutes", "parameters", "tokens")


def run_section(
    reasons: Iterable[tuple[str, Any, str]],
    text: Iterable[str] = (),
    alarms: tuple[str, ...] = (),
    tables: tuple[Table, ...] = (),
    title: str = "The run",
) -> Section:
    """The numbers of a run, each with its reason, below sentences such as those of `doubt_of_steps`."""
    return Section(title, " ".join(text), (Table(("what", "value", "why"), tuple(reasons)), *tables), alarms=alarms)


def derived_section(derived: Derived, config: PretrainConfig) -> Section:
    """Every number that the targets gave, with its reason."""
    given = [name for name in TARGETS if getattr(config, name) is not None]
    text = f"The setting {given[0]} was given" if len(given) == 1 else f"The settings {' and '.join(given)} were given"
    return run_section(derived.reasons, [f"{text}; the rest follows."])


def curve_section(log: Path, unit: str = "nats per target") -> tuple[Section, dict[str, Any]]:
    """The curves of a run's log, and its last numbers, those there are: `loss`, `tokens_per_second`, `utilisation`, and
    `validation_loss` and `bits_per_byte` with their intervals, of the averaged weights where the run averages, or
    `validation_unscored`, why there is none.

    A log without a step, where the last one was left out of a run of few, has no curve. `unit` is that of the loss.
    """
    lines = read_log(log)
    kinds = {kind: [line for line in lines if line["kind"] == kind] for kind in ("step", "event", "sample", "experts")}
    validations = [line for line in lines if line["kind"] in ("validation", "average_validation")]
    metrics, rows = _last_numbers(kinds["step"], validations, unit)
    validations = [line for line in validations if "loss" in line]
    tables = [Table(("what", "value"), rows)]
    if kinds["event"]:
        events = tuple((line["step"], line["text"]) for line in kinds["event"])
        tables.append(Table(("step", "what happened"), events))
    if kinds["sample"]:
        tables.append(_samples(kinds["sample"]))
    if kinds["experts"]:
        tables.append(_experts(kinds["experts"]))
    steps = kinds["step"]
    alarms = _rise(validations)
    if unit and steps and steps[-1]["loss"] < _NOTHING:
        alarms += (
            f"nothing was left to learn: the training loss is {steps[-1]['loss']:.3f} at the last step, so the rows "
            "are known by heart or give their targets away; train for fewer epochs, or on more rows that differ",
        )
    figures = (Figure(_draw(steps, validations, unit), _caption(steps, validations, unit)),) if steps else ()
    return Section("Training", "", tuple(tables), figures, alarms=alarms), metrics


def _rise(validations: list[dict[str, Any]]) -> tuple[str, ...]:
    """A held-out loss that rose again after its best."""
    if not validations:
        return ()
    last = validations[-1]
    best = min((line for line in validations if line["kind"] == last["kind"]), key=lambda line: line["loss"])
    if last["loss"] < best["loss"] + _RISE:
        return ()
    return (
        f"over-fitted: the held-out loss was {best['loss']:.3f} at step {best['step']:,} and is {last['loss']:.3f} at "
        f"the last one, {last['step']:,}, whose weights these are; train for fewer epochs, at a lower rate, or on "
        "more texts",
    )


def _last_numbers(
    steps: list[dict[str, Any]], validations: list[dict[str, Any]], unit: str
) -> tuple[dict[str, Any], tuple[tuple[str, str], ...]]:
    """For the manifest, and for a reader."""
    metrics: dict[str, Any] = {}
    rows = []
    if steps:
        last, clocks = steps[-1], [line["seconds"] for line in steps]  # of each start of the run, from 0
        seconds = clocks[-1] + sum(before for before, after in pairwise(clocks) if after < before)
        metrics |= {"loss": last["loss"], "tokens_per_second": round(last["tokens_per_second"])}
        rows.append(("loss of the last step", f"{last['loss']:.3f}"))
        rows.append(("tokens a second", f"{last['tokens_per_second']:,.0f}"))
        rows.append(("time, with validations", readable_duration(seconds)))
        if "utilisation" in last:
            metrics["utilisation"] = last["utilisation"]
            rows.append(("of what matrix products reach here", f"{last['utilisation']:.0%}"))
    if validations:
        last = validations[-1]
        of = " of the averaged weights" if last["kind"] == "average_validation" else ""
        loss = f"held-out loss{of}{unit and ', '}{unit}"
        for name, key, label in (
            ("loss", "validation_loss", loss),
            ("bits_per_byte", "bits_per_byte", f"held-out bits per byte{of}"),
        ):
            if name in last:
                low, high = last[f"{name}_interval"]
                metrics |= {key: last[name], f"{key}_interval": [low, high]}
                rows.append((label, f"{last[name]:.3f} ({low:.3f} to {high:.3f}, n = {last['n']:,})"))
        if "unscored" in last:
            metrics["validation_unscored"] = last["unscored"]
            rows.append((loss, f"unscored: {last['unscored']}"))
        else:
            metrics |= {"validation_n": last["n"], "validation_signature": last["signature"]}
    return metrics, tuple(rows)


def doubt_of_steps(steps: int, of: str, remedies: str, few: int = FEW_STEPS) -> list[str]:
    """A warning where there are so few steps that a model hardly moves; nothing otherwise."""
    if steps >= few:
        return []
    made = f"{steps} {'step' if steps == 1 else 'steps'} of training on {of}"
    return [f"WARNING: {made}, in which little is learned: give {remedies}."]


def _samples(lines: list[dict[str, Any]]) -> Table:
    """Samples of the first, a middle and the last look at the model."""
    steps = sorted({line["step"] for line in lines})
    if steps[0] == 0:  # the base's, next to those of the end
        first, last = ([line for line in lines if line["step"] == step] for step in (0, steps[-1]))
        pairs = zip(first, last, strict=False)
        rows = tuple((before["beginning"], before["text"], after["text"]) for before, after in pairs)
        heads = ("the text begins", "the model before", f"the model after step {steps[-1]}")
        caption = f"Held-out texts, continued at temperature {TEMPERATURE:g} by at most {CONTINUED} tokens"
        return Table(heads, rows, caption)
    shown = {steps[0], steps[len(steps) // 2], steps[-1]}
    rows = tuple((line["step"], line["beginning"], line["text"]) for line in lines if line["step"] in shown)
    caption = f"What the model says after the beginning of a text, drawn at temperature {TEMPERATURE:g}"
    return Table(("step", "the text begins", "the model continues"), rows, caption)


def _experts(lines: list[dict[str, Any]]) -> Table:
    """How the layers of a mixture use their experts, at the last look."""
    rows = tuple(
        (line["layer"], f"{line['effective_experts']:.2f}", *(f"{share:.1%}" for share in shares))
        for line in lines
        if line["step"] == lines[-1]["step"]
        for shares in [(min(line["shares"]), max(line["shares"]), line["dropped"])]
    )
    heads = ("layer", "experts in use", "least used", "most used", "choices dropped")
    count = len(lines[-1]["shares"])
    return Table(heads, rows, f"Experts in use: exp of the entropy of their shares, {count} where all have the same")


def _caption(steps: list[dict[str, Any]], validations: list[dict[str, Any]], unit: str) -> str:
    last = steps[-1]
    dots = ", dots are held-out text with 95 % intervals" if validations else ""
    return (
        f"Loss{unit and ' in '}{unit} over {last['step']:,} steps, {last['tokens_per_second']:,.0f} tokens a second; "
        f"the line is a mean over a fiftieth of the run{dots}"
    )


def _draw(steps: list[dict[str, Any]], validations: list[dict[str, Any]], unit: str) -> str:
    figure, axes = new_axes("step", f"loss{unit and ', '}{unit}", height=3.0)  # legible where it is scaled to a phone
    at, losses = [line["step"] for line in steps], [line["loss"] for line in steps]
    axes.plot(at, losses, color="#b6ccd4", linewidth=0.6)
    axes.plot(at, running_mean(losses, 50), color="#0b6e8f", linewidth=1.6, label="training")
    colours = {"validation": ("#c2410c", "held out"), "average_validation": ("#5b21b6", "held out, averaged weights")}
    for kind, (colour, label) in colours.items():
        if lines := [line for line in validations if line["kind"] == kind]:
            draw_intervals(axes, lines, "loss", colour, label)
    axes.legend(frameon=False)
    return as_svg(figure)


def running_mean(values: ArrayLike, windows: int) -> NDArray[np.float64]:
    """The mean of one of so many parts of a run up to each step."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(sums))
    starts = np.maximum(ends - max(len(ends) // windows, 1), 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def draw_intervals(axes: Any, lines: Sequence[Mapping[str, Any]], name: str, colour: str, label: str) -> None:
    """Dots with 95 % intervals for the validations of a log."""
    values, (low, high) = (
        np.array([line[name] for line in lines]),
        np.array([line[f"{name}_interval"] for line in lines]).T,
    )
    at, ends = [line["step"] for line in lines], [values - low, high - values]
    axes.errorbar(at, values, ends, fmt="o", color=colour, ms=4, label=label)
