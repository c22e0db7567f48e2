"""The report of a sweep: its plan, its runs, the law, how well the law predicts, and a plot of all of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lmworks.records import Unscored
from lmworks.report import Figure, Section, Table, as_svg
from lmworks.train.planning.scaling_law_fit import FittedLaw, FittedPowerLaw, HeldOut
from lmworks.train.planning.units import readable_hours, short
from lmworks.train.sweep.findings import Findings, Trained, doubts
from lmworks.train.sweep.ladder import Ladder

FURTHER = (1, 10, 100)  # times the operations of the dearest run, for which the law is asked
_NEXT = (
    "What to do next: sweep again, into a new folder, with several times the minutes (or flops), as runs this short "
    "have hardly begun to learn; with sizes and lengths further apart (--set factor=3) or more of them (--set sizes=5, "
    "--set lengths=4), so that losses differ by more than they scatter; and with more text, or --set epochs=4, where "
    "the ladder says that text is short. `lmworks sweep --plan` shows the ladder without training. Until then "
    "`lmworks plan` without --law goes by a published one."
)
_NUMBERS = {
    "E": "nats per token that no model can predict: the entropy of the text",
    "A": "and alpha: what a model of finite size lacks, A / N^alpha",
    "alpha": "",
    "B": "and beta: what finite text lacks, B / D^beta",
    "beta": "",
    "exponent": "of the best size: N grows as C^this, D as C^(1 - this)",
}


def plan_section(ladder: Ladder) -> Section:
    """The runs that are going to be trained, and how long they take."""
    rows = tuple(
        (
            rung.name,
            short(rung.parameters),
            short(rung.tokens),
            f"{rung.flops:.2e}",
            f"{rung.derived.model.embedding.width} × {len(rung.derived.model.stacks[-1].blocks)}",
            rung.derived.batch,
            rung.derived.steps,
            f"{rung.derived.rate:.2g}",
            "unknown" if rung.seconds is None else f"{rung.seconds:,.1f}",
        )
        for rung in ladder.rungs
    )
    columns = ("run", "parameters", "tokens", "FLOPs", "shape", "batch", "steps", "rate", "seconds")
    total = "an unknown time" if ladder.seconds is None else readable_hours(ladder.seconds / 3600)
    caption = (
        f"The runs, {total} in all as this machine was measured. N2-D3 is the second size on the third length; a shape "
        "is width × layers; rates and batches are those that train.pretrain derives"
    )
    return Section(
        "The ladder",
        "Each size is trained on each length, to the end of a schedule of its own.",
        (Table(("what", "value", "why"), ladder.reasons), Table(columns, rows, caption)),
    )


def sections(ladder: Ladder, runs: Sequence[Trained], findings: Findings) -> list[Section]:
    """All of the report."""
    return [
        plan_section(ladder),
        _runs_section(runs, findings),
        _law_section(findings.law, runs),
        _held_out_section(findings.held_out),
        _approaches_section(findings),
    ]


def _runs_section(runs: Sequence[Trained], findings: Findings) -> Section:
    rows = tuple(
        (
            run.name,
            short(run.parameters),
            short(run.tokens),
            run.loss,
            "unknown" if run.bits_per_byte is None else f"{run.bits_per_byte:.3f}",
            run.training_loss,
            "interrupted" if run.seconds is None else f"{run.seconds:,.1f}",
            "unknown" if run.expected_seconds is None else f"{run.expected_seconds:,.1f}",
        )
        for run in runs
    )
    columns = ("run", "parameters", "tokens", "held-out loss", "bits per byte", "last step", "seconds", "expected")
    drawing = Figure(
        _draw(runs, findings),
        "Held-out loss, in nats per token. Left: over tokens, a colour for each size; right: over parameters, a colour "
        "for each budget of operations. Dots are runs, lines the law; the ring is the run with the most operations, "
        "and the bar what a law of all others says of it",
    )
    return Section("The runs", "", (Table(columns, rows),), (drawing,))


def _law_section(law: FittedLaw | Unscored, runs: Sequence[Trained]) -> Section:
    title = "The law"
    if isinstance(law, Unscored):
        return Section(title, f"No law follows: {law.reason}.\n\n{_NEXT}")
    rows = tuple(
        (
            name,
            f"{getattr(law.law, name):.4g}",
            f"{law.intervals[name].low:.4g}",
            f"{law.intervals[name].high:.4g}",
            why,
        )
        for name, why in _NUMBERS.items()
    )
    text = (
        f"L(N, D) = E + A / N^alpha + B / D^beta, fitted to {law.n} runs (approach 3 of Hoffmann et al. 2022). "
        f"Intervals are 95 % of {len(law.resampled)} resamples of the runs; A and B move with their exponents, and "
        "mean little alone."
    )
    text += "".join(f"\nDoubtful: {doubt}." for doubt in doubts(law, runs))
    advice = []
    for flops in (times * max(run.flops for run in runs) for times in FURTHER):
        best = law.law.allocate(flops)
        loss, interval = law.predict(best.parameters, best.tokens)
        sizes = short(best.parameters), short(best.tokens), f"{best.tokens / best.parameters:.3g}"
        advice.append((f"{flops:.2e}", *sizes, loss, interval.low, interval.high))
    asked = Table(
        ("FLOPs", "best parameters", "best tokens", "per parameter", "loss", "low", "high"),
        tuple(advice),
        "What the law advises for the operations of the dearest run, and for ten and a hundred times as many",
    )
    return Section(title, text, (Table(("number", "value", "low", "high", "what"), rows), asked))


def _held_out_section(held_out: HeldOut | Unscored) -> Section:
    title = "The largest run, predicted"
    if isinstance(held_out, Unscored):
        return Section(title, f"Nothing is predicted: {held_out.reason}.")
    (error, around), low, high = held_out.error, held_out.interval.low, held_out.interval.high
    rows = (
        ("predicted", held_out.predicted, low, high),
        ("measured", held_out.measured, held_out.measured, held_out.measured),
        ("measured - predicted", error, around.low, around.high),
    )
    within = "within" if low <= held_out.measured <= high else "outside of"
    text = (
        f"A law of the {held_out.fitted.n} other runs, asked for {short(held_out.parameters)} parameters on "
        f"{short(held_out.tokens)} tokens, is off by {error:+.4f} nats per token "
        f"({error / held_out.measured:+.2%}); the measured loss lies {within} the law's 95 % interval. A run "
        "scatters about the law besides: with another seed it would end a little higher or lower."
    )
    return Section(title, text, (Table(("loss, nats per token", "value", "low", "high"), rows),))


def _approaches_section(findings: Findings) -> Section:
    rows = []
    for name, fitted in (
        ("1, envelope of the best runs", findings.envelope),
        ("2, parabolas at equal operations", findings.isoflop),
        ("3, the law", findings.law),
    ):
        if isinstance(fitted, Unscored):
            rows.append((name, "unscored", "", "", fitted.reason))
            continue
        exponent = fitted.law.exponent
        span = fitted.intervals["exponent"]
        points = f"{len(fitted.optima)} budgets" if isinstance(fitted, FittedPowerLaw) else f"{fitted.n} runs"
        rows.append((name, f"{exponent:.3f}", f"{span.low:.3f}", f"{span.high:.3f}", points))
    text = (
        "The exponent a of N ∝ C^a by all three approaches of Hoffmann et al. 2022. Where they differ by more than "
        "their intervals, one of the fits is wrong."
    )
    return Section("Three approaches", text, (Table(("approach", "exponent", "low", "high", "from"), tuple(rows)),))


def _draw(runs: Sequence[Trained], findings: Findings) -> str:
    """Two panels as SVG, the same for the same runs."""
    from matplotlib.figure import Figure as Drawing
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    figure = Drawing(figsize=(9.5, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    law = None if isinstance(findings.law, Unscored) else findings.law
    sizes = sorted({run.parameters for run in runs})
    for colour, size in zip(_colours(len(sizes)), sizes, strict=True):
        points = sorted((run.tokens, run.loss) for run in runs if run.parameters == size)
        left.plot(*zip(*points, strict=True), "o", color=colour, markersize=5, label=short(size))
        if law is not None:
            tokens = np.geomspace(min(run.tokens for run in runs), max(run.tokens for run in runs), 60)
            left.plot(tokens, [law.law.loss(size, float(d)) for d in tokens], color=colour, linewidth=1.2)
    budgets = _budgets(runs)
    for colour, (flops, members) in zip(_colours(len(budgets)), budgets, strict=True):
        points = sorted((run.parameters, run.loss) for run in members)
        right.plot(*zip(*points, strict=True), "o", color=colour, markersize=5, label=f"{flops:.1e}")
        if law is not None and len(points) > 1:
            between = np.geomspace(points[0][0], points[-1][0], 60)
            right.plot(
                between, [law.law.loss(float(n), flops / 6 / float(n)) for n in between], color=colour, linewidth=1.2
            )
    if isinstance(findings.held_out, HeldOut):
        _mark(left, findings.held_out.tokens, findings.held_out)
        _mark(right, findings.held_out.parameters, findings.held_out)
    left.set_ylabel("held-out loss, nats per token")
    for axes, label, title in ((left, "tokens", "parameters"), (right, "parameters", "FLOPs")):
        axes.set(xscale="log", xlabel=label)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e0e1e6", linewidth=0.6)
        axes.legend(frameon=False, fontsize=8, title=title, title_fontsize=8)
    return as_svg(figure)


def _mark(axes: Any, x: float, held_out: HeldOut) -> None:
    below, above = held_out.predicted - held_out.interval.low, held_out.interval.high - held_out.predicted
    bar = {"yerr": [[max(below, 0)], [max(above, 0)]], "fmt": "_", "color": "#c2410c", "capsize": 4, "zorder": 4}
    axes.errorbar([x], [held_out.predicted], **bar)
    axes.plot([x], [held_out.measured], "o", color="#c2410c", markersize=10, markerfacecolor="none", zorder=4)


def _budgets(runs: Sequence[Trained]) -> list[tuple[float, list[Trained]]]:
    """Runs of about the same operations, the least first, with the mean of these."""
    groups: list[list[Trained]] = []
    for run in sorted(runs, key=lambda run: run.flops):
        if groups and run.flops < 1.1 * groups[-1][-1].flops:
            groups[-1].append(run)
        else:
            groups.append([run])
    return [(sum(run.flops for run in group) / len(group), group) for group in groups]


def _colours(number: int) -> list[Any]:
    from matplotlib import colormaps

    return list(colormaps["viridis"](np.linspace(0, 0.85, number)))
