"""The drawings of a cleaning: what is left after each step, and measures with the thresholds that they are held to."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from lmworks.report import as_svg, new_axes

_LINE, _SHADE = "#c2410c", 0.12  # of a threshold, and of the values that it refuses


def measure_plot(
    groups: Mapping[str, np.ndarray], *, x: str, at_least: float | None, at_most: float | None, bins: int = 40
) -> str:
    """SVG of the values of a measure, an outline for each group, with its thresholds; what they refuse is shaded.

    Documents are counted on a logarithmic axis, since those that a threshold is about are few. So is the measure,
    where its values are positive and go over three orders of magnitude or more.
    """
    figure, axes = new_axes(x, "documents")
    thresholds = {name: value for name, value in (("at least", at_least), ("at most", at_most)) if value is not None}
    edges, scale = _edges(np.concatenate([*groups.values(), list(thresholds.values())]), bins)
    axes.set(xscale=scale, yscale="log")
    for number, (name, values) in enumerate(groups.items()):
        look = {"color": "#0b6e8f"} if len(groups) == 1 else {"histtype": "step", "color": _colour(number)}
        axes.hist(values, bins=edges.tolist(), label=name, linewidth=1.6, **look)
    axes.set_ylim(bottom=0.5)  # where a single one still is to be seen
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else "")
    left, right = axes.get_xlim()
    if at_least is not None:
        axes.axvspan(left, at_least, color=_LINE, alpha=_SHADE, linewidth=0, zorder=0)
    if at_most is not None:
        axes.axvspan(at_most, right, color=_LINE, alpha=_SHADE, linewidth=0, zorder=0)
    axes.set_xlim(left, right)
    for name, value in thresholds.items():
        _draw_threshold(axes, f"{name} {value:,.6g}", value)
    if len(groups) > 1:
        figure.legend(loc="outside upper left", ncols=3, frameon=False)
    return as_svg(figure)


def _edges(values: np.ndarray, bins: int) -> tuple[np.ndarray, Literal["linear", "log"]]:
    low, high = float(values.min()), float(values.max())
    if low == high:
        return np.array([low - 0.5, high + 0.5]), "linear"
    if low > 0 and high / low >= 1000:
        return np.geomspace(low, high, bins + 1), "log"
    return np.linspace(low, high, bins + 1), "linear"


def _draw_threshold(axes: Any, told: str, value: float) -> None:
    axes.axvline(value, color=_LINE, linewidth=1.2)
    across = axes.transAxes.inverted().transform(axes.transData.transform((value, 1)))[0]  # from 0 to 1
    side, shift = ("right", -4) if across > 0.6 else ("left", 4)
    at = (value, axes.get_ylim()[1])
    axes.annotate(told, at, (shift, -2), textcoords="offset points", color=_LINE, fontsize=9, ha=side, va="top")


def stacked_bars(parts: Mapping[str, Mapping[str, float]], *, x: str, unit: str = "") -> str:
    """SVG with a bar for each row, `parts[series][row]`, of one piece for each series, and the sum at its end.

    Rows are in the order in which they first occur, from the top.
    """
    from matplotlib.ticker import EngFormatter, MaxNLocator

    rows = list(dict.fromkeys(row for series in parts.values() for row in series))
    figure, axes = new_axes(x, "", height=1.1 + 0.28 * len(rows))
    ends = [0.0] * len(rows)
    for number, (series, values) in enumerate(parts.items()):
        widths = [values.get(row, 0.0) for row in rows]
        axes.barh(range(len(rows)), widths, 0.72, ends, label=series, color=_colour(number))
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    written = EngFormatter(unit, places=1)
    for row, end in enumerate(ends):
        axes.annotate(written(end), (end, row), (4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.18 * max([*ends, 1e-9]))
    axes.xaxis.set_major_locator(MaxNLocator(6))  # more of "250 kB" would run into each other
    axes.xaxis.set_major_formatter(EngFormatter(unit))
    axes.grid(visible=False, axis="y")
    if len(parts) > 1:
        figure.legend(loc="outside upper left", ncols=3, frameon=False)
    return as_svg(figure)


def step_plot(lines: Mapping[str, Mapping[str, float]], *, y: str) -> str:
    """SVG of shares, 0 to 1, after each of several steps, `lines[name][step]`, as stairs; steps from left to right."""
    from matplotlib.ticker import PercentFormatter

    steps = list(dict.fromkeys(step for line in lines.values() for step in line))
    figure, axes = new_axes("", y)
    for number, (name, line) in enumerate(lines.items()):
        width = 1.6 + 2.4 * (len(lines) - 1 - number) / max(len(lines), 1)  # those on one line are all to be seen
        xs, ys = [steps.index(step) for step in line], list(line.values())
        axes.step(xs, ys, where="mid", label=name, linewidth=width, color=_colour(number))
    axes.set_xticks(range(len(steps)), steps, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_ylim(0, 1.04)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.legend(loc="outside upper left", ncols=3, frameon=False)
    return as_svg(figure)


def _colour(number: int) -> str:
    """Of a series: told apart by people with any sight of colours (Okabe and Ito 2008), grey after the eighth."""
    colours = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b5a800", "#5b5b5b")
    return colours[number] if number < len(colours) else "#b3b3b3"
