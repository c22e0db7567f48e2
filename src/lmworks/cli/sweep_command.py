"""The verb `sweep`: a ladder of small models, and the scaling law of your text."""

from pathlib import Path
from typing import Annotated

import typer

from lmworks.artefact import StageContext, check_new
from lmworks.cli.options import SettingsOption
from lmworks.cli.output import new_console, say, show_sections
from lmworks.config import assigned, from_mapping
from lmworks.train.sweep.config import SweepConfig


def sweep(
    inputs: Annotated[
        list[Path],
        typer.Option("--from", help="Token shards, their held-out part, and their vocabulary; may be repeated."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to make; must not exist.")],
    settings: SettingsOption = None,
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
    `lmworks sweep --from shards --from held_out --from words --minutes 10 --length 256 --out sweep`
    """
    from lmworks.build import read_inputs, run_alone, stage_sections
    from lmworks.train.sweep.sweep_report import plan_section

    check_new(out)
    config = from_mapping(SweepConfig, assigned(settings))
    named = {name: outcome.folder for name, outcome in read_inputs(inputs).items()}
    typer.echo("measuring this machine for some seconds for each size, unless it was before", err=True)
    from lmworks.train.sweep.stage import plan

    console = new_console()
    show_sections([plan_section(plan(config, StageContext(named, out, out, base=Path.cwd())))])
    if plan_only:
        return
    outcome = run_alone("train.sweep", out, inputs, [], settings or [], console)
    show_sections(stage_sections(outcome)[1:])
    say(f"\nReport: {outcome.folder / 'report.html'}")
