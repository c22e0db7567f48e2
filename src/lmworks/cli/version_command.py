"""The verbs `promote` and `rollback`: which version of a system is live."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmworks.cli.options import WorkspaceOption, last_workspace, new_console, read_margins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmworks.versions import Promotion

ByOption = Annotated[str, typer.Option("--by", help="Who does it. Default: the user of this machine.")]


def promote(
    version: Annotated[str, typer.Argument(help='"candidate" or a hash; without it: the list of all.')] = "",
    reason: Annotated[str, typer.Option(help="Why it goes live; kept in promotions.jsonl.")] = "",
    margins: Annotated[
        list[str] | None,
        typer.Option("--margin", metavar="METRIC=NUMBER", help="How much worse it may be. Default: span-f1, answered."),
    ] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option("--run", help="Its run and then that of what is live, of `lmworks eval`. Default: their own."),
    ] = None,
    experiment: Annotated[str, typer.Option(help="The experiment that it won.")] = "",
    by: ByOption = "",
    workspace: WorkspaceOption = None,
) -> None:
    """Make a version live, once it passes the gate: shown not to be worse than what is live, on the same questions.

    A version is what `lmworks build --candidate` made. A server that runs takes it up within seconds.

    Example: `lmworks promote candidate --reason "abstains less on leave" --margin answered=0.1`
    """
    from lmworks.versions import MARGINS, compared, read_version
    from lmworks.versions import promote as go_live

    folder = workspace or last_workspace()
    if not version:
        _print_versions(folder)
        return
    given = read_margins(margins)
    if runs and len(runs) != 2:
        raise ValueError("name two runs: --run NEW --run OLD")
    wanted = read_version(folder, version)
    gate = compared(folder, wanted, given or MARGINS, runs or ())
    typer.echo(f"Gate, new less old:\n{gate.text}")
    _print_live(go_live(folder, wanted, gate, reason, who=by, experiment=experiment))


def rollback(
    to: Annotated[str, typer.Argument(help="A version that was live. Default: the one before the last.")] = "",
    reason: Annotated[str, typer.Option(help="Why; kept in promotions.jsonl.")] = "rolled back",
    by: ByOption = "",
    workspace: WorkspaceOption = None,
) -> None:
    """Make the version live again that was before the last promotion. A server that runs takes it up within seconds.

    Example: `lmworks rollback --reason "thumbs down doubled"`
    """
    from lmworks.versions import rollback as go_back

    _print_live(go_back(workspace or last_workspace(), reason, to=to, who=by))


def _print_live(made: "Promotion") -> None:
    typer.echo(f"{made.version} is live ({made.kind}: {made.reason}); before it was {made.before}")


def _print_versions(folder: Path) -> None:
    from datetime import datetime

    from rich.table import Table

    from lmworks.report import shown
    from lmworks.versions import promotions, versions
    from lmworks.workspace import read_current

    live, history = read_current(folder).version, promotions(folder)
    table = Table("version", "", "recipe", "went live", "by", "why", box=None)
    for one in versions(folder):
        of: Sequence[Promotion] = [line for line in history if line.version == one.version]
        last = of[-1] if of else None
        when = datetime.fromtimestamp(last.time).strftime("%Y-%m-%d %H:%M") if last else ""
        reason = shown(f"{last.kind}: {last.reason}") if last else ""
        mark = "live" if one.version == live else ""
        table.add_row(one.version, mark, shown(one.recipe), when, shown(last.who) if last else "", reason)
    new_console().print(table)
