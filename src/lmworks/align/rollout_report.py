"""The report of what a policy's rollouts were worth over the steps of its run."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from lmworks.report import Figure, Section, Table, as_svg, new_axes
from lmworks.train.run_log import LOG, read_log
from lmworks.train.run_report import draw_intervals, running_mean

_PARTS, _SMOOTH = 5, 20  # of a run: in the table, and those that a drawn mean is over
_COLOURS = ("#0b6e8f", "#c2410c")
_UNITS = {"kl": "nats a token", "entropy": "nats a token", "length": "tokens", "distinct_2": "share of pairs of tokens"}
_MEANS = {
    "reward": "the mean reward of the completions",
    "kl": "how far the policy is from its reference, k1",
    "entropy": "of the sampled tokens; near 0 all completions are alike",
    "length": "tokens of the completions",
    "distinct_2": "different pairs of neighbouring tokens among all",
    "truncated": "completions that max_completion_length cut off",
    "frac_reward_zero_std": "prompts of whose completions none is better than another, which teach nothing",
}
Line = Mapping[str, Any]


def rollouts_section(log: Path) -> Section:
    """Reward and its parts, pass@k, divergence, entropy and length over the steps: a table of means, and drawings with
    what was measured on held-out prompts. A log without a step has none."""
    lines = read_log(log)
    steps, held_out = ([line for line in lines if line["kind"] == kind] for kind in ("step", "validation"))
    if not steps:
        return Section("Rollouts", "No step was logged.")
    logged = [name for name in steps[-1] if any(name in line for line in steps)]
    parts = [name for name in logged if name.startswith("reward/") and not name.endswith("/std")]
    passed = [name for name in logged if name.startswith("pass@")]
    names = ["reward", *parts, *passed, "kl", "entropy", "distinct_2", "length", "truncated", "frac_reward_zero_std"]
    ends = np.linspace(0, len(steps), min(_PARTS, len(steps)) + 1).astype(int).tolist()
    spans = [steps[start:end] for start, end in pairwise(ends)]
    heads = tuple(f"{span[0]['step']}-{span[-1]['step']}" for span in spans)
    rows = []
    for name in (name for name in names if name in logged):
        means = [
            float(np.mean(values)) if (values := [line[name] for line in span if name in line]) else "-"
            for span in spans
        ]
        rows.append((name, *means, _MEANS.get(name, "")))
    drawn = [["reward"], *([name] for name in parts if len(parts) > 1), passed, ["kl"], ["entropy"], ["length"]]
    figures = tuple(
        _figure(logged_names, steps, held_out) for each in drawn if (logged_names := [n for n in each if n in logged])
    )
    text = f"Means over steps of what was sampled. `{LOG}` has every number of every step."
    alarms = ()
    if all(line.get("truncated") == 1 for line in steps):
        alarms = ("every completion was cut off: raise max_completion_length, or first teach the model to end",)
    return Section("Rollouts", text, (Table(("steps", *heads, "what it is"), tuple(rows)),), figures, alarms=alarms)


def _figure(names: Sequence[str], steps: Sequence[Line], held_out: Sequence[Line]) -> Figure:
    """A line for each name; a thin one for the steps themselves, dots with 95 % intervals for held-out prompts."""
    first = names[0]
    figure, axes = new_axes("step", _UNITS.get(first, "" if len(names) > 1 else first), height=2.8)
    for name, colour in zip(names, _COLOURS, strict=False):
        lines = [line for line in steps if name in line]
        at, values = [line["step"] for line in lines], np.array([line[name] for line in lines], float)
        axes.plot(at, values, color=colour, linewidth=0.6, alpha=0.4)
        axes.plot(at, running_mean(values, _SMOOTH), color=colour, linewidth=1.6, label=name)
    dots, drawn = False, [first] if first == "reward" else []
    if first.startswith("pass@"):  # those of held-out prompts
        keys = dict.fromkeys(key for line in held_out for key in line if key.startswith("pass@"))
        drawn = [key for key in keys if not key.endswith("_interval")]
    for name, colour in zip(drawn, _COLOURS, strict=False):
        if measured := [line for line in held_out if f"{name}_interval" in line]:
            dots = True
            draw_intervals(axes, measured, name, colour, f"{name}, held-out prompts")
    if len(names) > 1 or dots:
        axes.legend(frameon=False)
    beside = ", and with 95 % intervals that of held-out prompts" if dots else ""
    return Figure(as_svg(figure), f"{' and '.join(names)}: {_MEANS.get(first, 'means of a batch')}{beside}")
