"""The verb `experiment`: compare systems, models or settings on live requests."""

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from lmworks.artefact import check_new
from lmworks.cli.options import WorkspaceOption, moment, resolve_workspace

app = typer.Typer(
    no_args_is_help=True,
    help="Experiments on live requests: plan, start, ramp and stop. Example: `lmworks experiment new tone.toml`.",
)
ReasonOption = Annotated[str, typer.Option(help="Why; it is kept with the event.", prompt=True)]
_EXAMPLE = """\
name = "{name}"
description = "What do we want to know?"
unit = "conversation"          # who sees the same arm; or "user"
route = "assistant"            # the served name whose requests take part
metric = "thumbs"              # decides; or click, copy, return, rating, task_done, click/answer, ...
minimum_effect = 0.05          # the smallest difference that matters
planned_units = 5000           # in all arms: `lmworks experiment power` says how many it takes
window_days = 1.0              # after a unit's first request, in which its outcomes count
guardrails = {{ "seconds>10" = 0.02, error = 0.01 }}     # how much worse each may become
ramp = [0.1, 0.5, 1.0]         # shares of all units that take part

[arms.control]                 # the first arm: as it is now
share = 0.5

[arms.candidate]
share = 0.5
settings = {{ threshold = 0.4 }} # or: version = "candidate", model = "a served name"
"""


@app.command()
def new(file: Annotated[Path, typer.Argument(help="The .toml file to make; must not exist.")]) -> None:
    """Write an example of an experiment, to be changed.

    Example: `lmworks experiment new tone.toml`
    """

    check_new(file)
    file.write_text(_EXAMPLE.format(name=file.stem), "utf-8")
    typer.echo(f"{file}: change it, then `lmworks experiment power {file}` and `lmworks experiment start {file}`")


@app.command()
def power(
    file: Annotated[Path, typer.Argument(help="The experiment.", exists=True)],
    baseline: Annotated[float, typer.Option(help="The metric as it is now.")],
    units: Annotated[float, typer.Option(help="Units (conversations or users) a day.")],
) -> None:
    """Say how many units an experiment needs, and how long that takes.

    Example: `lmworks experiment power tone.toml --baseline 0.7 --units 40`
    """
    from lmworks.monitor.experiment import read_experiment
    from lmworks.monitor.experiment_results import plan

    typer.echo(plan(read_experiment(file), baseline, units))


@app.command()
def start(
    file: Annotated[Path, typer.Argument(help="The experiment.", exists=True)],
    reason: ReasonOption,
    workspace: WorkspaceOption = None,
) -> None:
    """Begin an experiment, with the first share of its ramp; a server that runs takes it up within a second.

    Example: `lmworks experiment start tone.toml --reason "try a lower threshold"`
    """
    from lmworks.monitor import experiment as experiments
    from lmworks.workspace import open_log

    experiment = experiments.read_experiment(file)
    with open_log(resolve_workspace(workspace)) as log:
        experiments.start(log, experiment, time.time(), reason)
    share, name = f"{experiment.ramp[0]:.0%}", experiment.name
    typer.echo(f"{name} runs with {share} of units; `lmworks experiment show {name}` says what it finds")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Its name; without it, all of them.")] = "",
    workspace: WorkspaceOption = None,
) -> None:
    """Say what an experiment has found, and what to do.

    Example: `lmworks experiment show tone`
    """
    from lmworks.monitor.experiment import read_state, read_states
    from lmworks.monitor.experiment_results import read_out
    from lmworks.workspace import read_log

    with read_log(resolve_workspace(workspace)) as reader:
        if not name:
            for state in read_states(reader):
                typer.echo(f"{state.experiment.name}  {state.status}  {state.share:.0%}  {state.experiment.metric}")
            return
        state = read_state(reader, name)
        found = read_out(reader, state.experiment, time.time())
    typer.echo(f"{name}: {state.status}. {found.decision.kind.capitalize()}: {found.decision.words}")
    units = ", ".join(f"{arm} {count}" for arm, count in found.assigned.items())
    typer.echo(f"units: {units}; {found.open} within their window; sample ratio p = {found.mismatch:.3g}")
    for one in found.effects:
        typer.echo(f"  {one.missing or one}{f' (guardrail {one.guard})' if one.guard else ''}")
    for event in state.events:
        typer.echo(f"  {moment(event.time)} {event.kind}: {event.reason}")


@app.command()
def ramp(name: str, reason: ReasonOption, workspace: WorkspaceOption = None) -> None:
    """Let the next share of units take part.

    Example: `lmworks experiment ramp tone --reason "guardrails hold"`
    """
    _change(name, "ramped", reason, workspace)


@app.command()
def stop(name: str, reason: ReasonOption, workspace: WorkspaceOption = None) -> None:
    """End an experiment: everybody gets what is served without it.

    Example: `lmworks experiment stop tone --reason "the candidate is better, promoted"`
    """
    _change(name, "stopped", reason, workspace)


def _change(name: str, kind: Literal["ramped", "stopped"], reason: str, workspace: Path | None) -> None:
    from lmworks.monitor.experiment import change_state
    from lmworks.workspace import open_log

    with open_log(resolve_workspace(workspace)) as log:
        state = change_state(log, name, kind, time.time(), reason)
    typer.echo(f"{name}: {state.status}, {state.share:.0%} of units")
