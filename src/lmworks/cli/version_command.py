"""The verbs `promote` and `rollback`: which version of a system is live."""

from pathlib import Path
from typing import Annotated

import typer

from lmworks.cli.options import WorkspaceOption, moment, read_margins, resolve_workspace
from lmworks.report import shown

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
    """Promote a version that passes the gate: not worse than the live one on the same questions.

    A version is what `lmworks build --candidate` made. A server that runs takes it up within seconds.

    Example: `lmworks promote candidate --reason "abstains less on leave" --margin answered=0.1`
    """
    from lmworks.versions import MARGINS, compared, promotions, read_version, versions
    from lmworks.versions import promote as go_live
    from lmworks.workspace import read_current

    folder = resolve_workspace(workspace)
    if not version:
        live, history = read_current(folder).version, {one.version: one for one in promotions(folder)}
        for one in versions(folder):
            last, mark = history.get(one.version), "live" if one.version == live else ""
            went = (
                f"{moment(last.time)} {last.kind} by {last.who}: {last.reason}"
                if last
                else ""
                if mark
                else "never live"
            )
            typer.echo(shown(f"{one.version}  {mark:<4}  {one.recipe}  {went}"))
        return
    given = read_margins(margins)
    if runs and len(runs) != 2:
        raise ValueError("name two runs: --run NEW --run OLD")
    wanted = read_version(folder, version)
    gate = compared(folder, wanted, given or MARGINS, runs or ())
    promotion = go_live(folder, wanted, gate, reason, who=by, experiment=experiment)
    typer.echo(f"Gate, new less old:\n{gate.text}\n{promotion}")


def rollback(
    to: Annotated[str, typer.Argument(help="A version that was live. Default: the one before the last.")] = "",
    reason: Annotated[str, typer.Option(help="Why; kept in promotions.jsonl.")] = "rolled back",
    by: ByOption = "",
    workspace: WorkspaceOption = None,
) -> None:
    """Restore the version that was live before the last promotion. A server that runs takes it up within seconds.

    Example: `lmworks rollback --reason "thumbs down doubled"`
    """
    from lmworks.versions import rollback as go_back

    typer.echo(go_back(resolve_workspace(workspace), reason, to=to, who=by))
