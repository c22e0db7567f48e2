"""What a run tells in a report: why it is what it is, and how its loss fell."""

import io
from pathlib import Path
from typing import Any

from lmworks.report import Figure, Section, Table
from lmworks.train.dial import Derived
from lmworks.train.run_log import read_log


def dial_section(derived: Derived) -> Section:
    """Every number that the dial gave, with its reason."""
    text = "One number was given; the others follow from it."
    return Section("The run", text, (Table(("what", "value", "why"), derived.reasons),))


def curve_section(log: Path) -> tuple[Section, dict[str, Any]]:
    """The curves of a run's log, and its last numbers: `loss`, `validation_loss`, `bits_per_byte`, those there are.

    A log without a step, where the last one was left out of a run of few, has no curve.
    """
    lines = read_log(log)
    steps = [line for line in lines if line["kind"] == "step"]
    validations = [line for line in lines if line["kind"] == "validation"]
    metrics: dict[str, Any] = {}
    if steps:
        metrics |= {"loss": steps[-1]["loss"], "tokens_per_second": round(steps[-1]["tokens_per_second"])}
    if validations:
        metrics["validation_loss"] = validations[-1]["loss"]
        if "bits_per_byte" in validations[-1]:
            metrics["bits_per_byte"] = validations[-1]["bits_per_byte"]
    events = tuple((line["step"], line["text"]) for line in lines if line["kind"] == "event")
    tables = [Table(("what", "value"), tuple((name.replace("_", " "), value) for name, value in metrics.items()))]
    if events:
        tables.append(Table(("step", "what happened"), events))
    figures = (Figure(_draw(steps, validations), _caption(steps)),) if steps else ()
    return Section("Training", "", tuple(tables), figures), metrics


def _caption(steps: list[dict[str, Any]]) -> str:
    last = steps[-1]
    return (
        f"Loss in nats per token over {last['step']:,} steps, {last['tokens_per_second']:,.0f} tokens a second; the "
        "line is a mean over a fiftieth of the run, dots are held-out text"
    )


def _draw(steps: list[dict[str, Any]], validations: list[dict[str, Any]]) -> str:
    from matplotlib.figure import Figure as Drawing

    figure = Drawing(figsize=(7.5, 3.5), layout="constrained")
    axes = figure.subplots()
    at, losses = [line["step"] for line in steps], [line["loss"] for line in steps]
    window = max(len(steps) // 50, 1)
    smooth = [sum(losses[max(i - window + 1, 0) : i + 1]) / min(i + 1, window) for i in range(len(losses))]
    axes.plot(at, losses, color="#b6ccd4", linewidth=0.6)
    axes.plot(at, smooth, color="#0b6e8f", linewidth=1.6, label="training")
    if validations:
        held_out = [line["loss"] for line in validations]
        axes.plot(
            [line["step"] for line in validations], held_out, "o", color="#c2410c", markersize=4, label="held out"
        )
    axes.set_xlabel("step")
    axes.set_ylabel("loss, nats per token")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]
