"""The tables and the picture of docs/scaling-laws.md: published laws, and published runs beside what a plan says.

python docs/scaling_laws.py

Nothing is trained and nothing measured: it takes seconds.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from laws_without_embeddings import CHINCHILLA_EMBEDDING_FACTOR, exponent_without_embeddings
from published_runs import MEMORY_RUNS, RUNS

from lmworks.train.planning.scaling_laws import LAWS, ParametricLaw
from lmworks.train.planning.units import short

BUDGETS = (1e18, 1e20, 1e22, 5.76e23, 1e25)  # FLOPs; the fourth is Gopher's and Chinchilla's
GREY = "#98a2b3"


def law_table() -> str:
    """Markdown: parameters and tokens by law and budget."""
    rows = [f"| law | {' | '.join(f'{c:.3g}' for c in BUDGETS)} |", "|---" * (1 + len(BUDGETS)) + "|"]
    for name, published in LAWS.items():
        advice = [published.law.allocate(budget) for budget in BUDGETS]
        rows.append(f"| {name} | " + " | ".join(f"{short(a.parameters)}, {short(a.tokens)}" for a in advice) + " |")
    return "\n".join(rows)


def run_table() -> str:
    """Markdown: operations and utilisation of published runs."""
    rows = [
        "| run | tokens | published FLOPs | 6 N D | with attention | device hours | utilisation |",
        "|---" * 7 + "|",
    ]
    for run in RUNS:
        used = run.utilisation()
        mark = "" if not run.remembered else " *"
        cells = [
            run.size + mark,
            short(run.tokens),
            "–" if run.flops is None else f"{run.flops:.3g}",
            f"{run.six_n_d():.3g}" + ("" if run.flops is None else f" ({run.six_n_d() / run.flops - 1:+.1%})"),
            f"{run.computed_flops():.3g}",
            "–" if run.device_hours is None else f"{run.device_hours:,.0f} {run.device}",
            "–" if used is None else f"{used:.0%}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def memory_table() -> str:
    """Markdown: memory of one device, measured by others and expected here."""
    rows = ["| run | tokens of a device | measured, GiB | expected, GiB | off by |", "|---" * 5 + "|"]
    for run in MEMORY_RUNS:
        low, high = run.expected()
        expected = f"{low:.1f}" if low == high else f"{low:.1f} to {high:.1f}"
        off = (
            f"{low / run.measured - 1:+.0%}" if low == high else "within" if low <= run.measured <= high else "outside"
        )
        tokens = f"{run.lower.tokens_per_device:,}"
        rows.append(f"| {run.size}, {run.title} | {tokens} | {run.measured} | {expected} | {off} |")
    return "\n".join(rows)


def draw(path: Path) -> None:
    """Left the loss over sizes at several budgets, in the middle the best size by law, right the exponent that is found
    without embeddings."""
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "lmworks", "font.size": 10})
    figure, panels = plt.subplots(1, 3, figsize=(13.5, 4.4), layout="constrained", facecolor="white")
    _isoflop(panels[0])
    _best_sizes(panels[1])
    _exponents(panels[2])
    for axes in panels:
        axes.set_xscale("log")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#eaecf0")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _isoflop(axes: plt.Axes) -> None:
    law = LAWS["besiroglu"].law
    assert isinstance(law, ParametricLaw)
    for color, flops in zip(plt.cm.viridis(np.linspace(0, 0.85, 5)), np.logspace(18, 22, 5), strict=True):
        best = law.allocate(flops)
        sizes = best.parameters * np.logspace(-1.1, 1.1, 200)
        losses = [law.loss(size, flops / 6 / size) for size in sizes]
        axes.plot(sizes, losses, color=color, linewidth=1.8)
        axes.plot(best.parameters, best.loss, "o", color=color, markersize=5)
        style = {"color": color, "fontweight": "bold", "fontsize": 9, "ha": "center", "va": "bottom"}
        axes.text(sizes[-1], losses[-1] + 0.02, f"{flops:.0e}", **style)
    axes.set(title="equal operations, in FLOPs, by besiroglu", xlabel="parameters", ylabel="loss, nats per token")


def _best_sizes(axes: plt.Axes) -> None:
    flops = np.logspace(17, 26, 50)
    for name, published in LAWS.items():
        sizes = [published.law.allocate(c).parameters for c in flops]
        (line,) = axes.plot(flops, sizes, linewidth=1.8, label=name)
        if name == "kaplan":
            line.set_linestyle("--")
    axes.set_yscale("log")
    axes.legend(frameon=False, fontsize=8)
    axes.set(title="best size", xlabel="FLOPs", ylabel="parameters (kaplan: without embeddings)")


def _exponents(axes: plt.Axes) -> None:
    sizes = np.logspace(2.9, 12, 300)
    axes.axvspan(768, 1.5e9, color="#f2f4f7")
    axes.text(1.1e6, 0.435, "Kaplan's sizes", ha="center", color="#667085", fontsize=9)
    for name in ("besiroglu", "chinchilla-3"):
        law = LAWS[name].law
        assert isinstance(law, ParametricLaw)
        local = [exponent_without_embeddings(law, size, CHINCHILLA_EMBEDDING_FACTOR) for size in sizes]
        (line,) = axes.plot(sizes, local, linewidth=1.8, label=name)
        axes.axhline(law.exponent, color=line.get_color(), linewidth=1, linestyle=":")
    axes.axhline(0.73, color=GREY, linewidth=1, linestyle="--")
    axes.text(1e12, 0.735, "Kaplan 0.73", ha="right", color="#667085", fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="upper right")
    axes.set(title="exponent seen without embeddings", xlabel="parameters without embeddings", ylabel="local exponent")


if __name__ == "__main__":
    for table in (law_table(), run_table(), memory_table()):
        print(table, end="\n\n")
    draw(Path(__file__).with_name("scaling-laws.svg"))
