"""The verb `sweep`: a ladder of small models, and the scaling law custom text."""

from pathlib import Path
from typing import Annotated

import typer

from lmworks.cli.options import SettingsOption, new_console
from lmworks.cli.output import say
from lmworks.config import assigned


def sweep(
    inputs: Annotated[
        list[Path],
        typer.Option("--from", help="Token shards, their held-out part, and their vocabulary; may be repeated."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to make; must not exist.")],
    minutes: Annotated[float | None, typer.Option(help="How long all runs together may take on this machine.")] = None,
    flops: Annotated[str | None, typer.Option(help="How many operations they may take, such as 2e14.")] = None,
    overrides: SettingsOption = None,
    plan_only: Annotated[bool, typer.Option("--plan", help="Print what would be trained, and stop.")] = False,
) -> None:
    """Train several small models on your text and fit a scaling law.

    A scaling law says how the loss falls with parameters N and tokens D, L(N, D) = E + A / N^alpha + B / D^beta, and so
    which model to train when the budget is larger than any that was tried. A published law is that of its text and its
    vocabulary; this one is of yours.

    Give **one budget**, `--minutes` or `--flops`. Sizes and lengths of the runs follow from it, each with the learning
    rate and the batch that `train.pretrain` would take, and are printed with their time before the first begins. The
    run with the most operations is **held out**: a law of all others predicts it, and the report says by how much that
    is off. All numbers have intervals, bootstrapped over the runs.

    You can stop it and run it again: finished runs are reused, and an interrupted one resumes from its checkpoint.
    The folder of `--out` then holds `report.html`, `runs.json`, the logs, and `law.json`, which `lmworks plan --law`
    reads.

    Example, after `data.tokenize` has made `shards` and, with `part=held_out`, `held_out` by the vocabulary in `words`:
    `lmworks sweep --from shards --from held_out --from words --minutes 10 --set length=256 --out sweep`
    """
    from lmworks.artefact import StageContext, check_new
    from lmworks.build import read_inputs, run_alone, stage_sections
    from lmworks.config import from_mapping
    from lmworks.report import print_sections
    from lmworks.train.sweep.config import SweepConfig
    from lmworks.train.sweep.sweep_report import plan_section

    check_new(out)
    settings = list(overrides or [])
    settings += [] if minutes is None else [f"minutes={minutes}"]
    settings += [] if flops is None else [f"flops={flops}"]
    config = from_mapping(SweepConfig, assigned(settings))
    named = {name: outcome.folder for name, outcome in read_inputs(inputs).items()}
    typer.echo("measuring this machine for some seconds for each size, unless it was before", err=True)
    from lmworks.train.sweep.stage import plan

    console = new_console()
    print_sections(console, [plan_section(plan(config, StageContext(named, out, out, base=Path.cwd())))])
    if plan_only:
        return
    outcome = run_alone("train.sweep", out, inputs, [], settings, console)
    print_sections(console, stage_sections(outcome)[1:])
    say(f"\nReport: {outcome.folder / 'report.html'}")
