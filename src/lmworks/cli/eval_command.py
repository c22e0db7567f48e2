"""The verb `eval`: a model or a system on the tasks of a suite, runs next to each other, and what can be run."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lmworks.cli import eval_set_command
from lmworks.cli.options import new_console
from lmworks.cli.output import say
from lmworks.commands import evaluate as commands

DataOption = Annotated[
    Path, typer.Option(help="Folder of the tasks' files; `lmworks eval list` names them.", exists=True, file_okay=False)
]


class EvalGroup(TyperGroup):
    """The verbs of `eval`; what is none of them is a model that is run."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, ["run", *args] if args and args[0] not in known else args)


app = typer.Typer(
    cls=EvalGroup,
    no_args_is_help=True,
    help="""Score a model or a system on suites of tasks; compare runs.

    `lmworks eval MODEL --suite NAME --data FOLDER` is short for `lmworks eval run`.

    Example: `lmworks eval smollm2-135m-instruct --suite commonsense --data data --limit 200`
    """,
)
app.command()(eval_set_command.lint)
app.command()(eval_set_command.items)


@app.command()
def run(
    model: Annotated[
        str, typer.Argument(help="A pulled model, a folder, a .gguf file, a workspace, or URL#NAME of an endpoint.")
    ],
    suite: Annotated[list[str], typer.Option(help="A built-in suite or task, or a TOML file; may be repeated.")],
    data: DataOption,
    limit: Annotated[int, typer.Option(min=0, help="Rows of each task, in turns from its files; 0: all.")] = 0,
    shots: Annotated[int | None, typer.Option(min=0, help="Solved rows before each prompt.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to make. Default: .lmworks/runs/MODEL-SUITE-N.")] = None,
    compare: Annotated[Path | None, typer.Option(help="An earlier run, to be compared with item by item.")] = None,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out tasks whose files are not there; the table says which.")
    ] = False,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Let tasks run what the model wrote.")] = False,
    critique: Annotated[
        bool, typer.Option("--critique", help="Add calibration, diversity, retrieval, exactness, consistency, bias.")
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="key=value", help="Such as weights=float32; see `lmworks stage evaluate.suite`."),
    ] = None,
) -> None:
    """Score a model, or a whole system, on a suite; the run keeps every item.

    Rows are checked before weights are loaded. Safe to stop: the same command continues from there. A run holds
    `items.jsonl`, `scores.json` and `report.html`.

    Example: `lmworks eval smollm2-135m-instruct --suite mmlu --data data --limit 570`
    """
    from lmworks.evaluate.results import read_results
    from lmworks.report import print_sections

    if compare is not None:
        read_results(compare)
    made = commands.evaluate(model, suite, data, limit, shots, out, skip_missing, allow_code, critique, overrides or [])
    print_sections(new_console(), made.sections)
    say(f"\nReport: {made.report}")
    if compare is not None:
        _print_comparison(made.folder, compare)


@app.command("compare")
def compare_command(
    candidate: Annotated[Path, typer.Argument(help="A run, such as that of the new model.")],
    baseline: Annotated[Path, typer.Argument(help="A run over the same items, such as that of the old one.")],
    shared: Annotated[bool, typer.Option("--shared", help="Compare the items and metrics that both have.")] = False,
) -> None:
    """Compare two runs item by item: what differs by more than chance, after Holm's correction.

    Example: `lmworks eval compare .lmworks/runs/new-mmlu-1 .lmworks/runs/old-mmlu-1`
    """
    _print_comparison(candidate, baseline, shared)


def _print_comparison(candidate: Path, baseline: Path, shared: bool = False) -> None:
    from lmworks.evaluate.comparison import compare_runs

    say(f"\n{candidate} less {baseline}")
    for one in compare_runs(candidate, baseline, shared=shared):
        say(f"  {one}")


@app.command("list")
def list_tasks(data: Annotated[Path, typer.Option(help="Folder of the tasks' files.")] = Path("data")) -> None:
    """List built-in tasks and suites, the files that they read, and whether these are below --data.

    Example: `lmworks eval list --data data`
    """
    from lmworks.evaluate.task import Suite, built_in, file_names

    for name, one in built_in().items():
        if isinstance(one, Suite):
            lines = [f"{name}: {one.purpose}", f"suite of {', '.join(one.tasks)}"]
        else:
            files = (*one.files, *one.shots.files)
            found = "found" if all(file_names(pattern, data) for pattern in files) else "not found"
            lines = [f"{name}: {one.purpose}", f"{found} below {data}: {', '.join(files)}", f"from {one.source}"]
        say("\n    ".join(lines))


@app.command("metrics")
def list_metrics() -> None:
    """List the metrics that a task may name, and the models that they need, which it names too; a verifier comes with
    lmworks.

    Example: `lmworks eval metrics`
    """
    from lmworks.evaluate.registry import METRICS
    from lmworks.report import Table, print_table

    rows = tuple((name, entry.purpose, ", ".join(entry.roles)) for name, entry in METRICS.items())
    print_table(new_console(), Table(("metric", "measures", "needs"), rows))
