"""The verb `log`: what was asked and answered, and what can be done with it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lmworks.artefact import check_new
from lmworks.cli.options import WorkspaceOption, moment, resolve_workspace
from lmworks.cli.output import new_console
from lmworks.config import to_mapping
from lmworks.report import shown

if TYPE_CHECKING:
    pass

app = typer.Typer(no_args_is_help=True, help="The log of interactions: show, export, rows, prune, replay.")

FilterOption = Annotated[
    str,
    typer.Option(
        "--filter",
        help='As in the box of the page: words, route:assistant, abstained:yes, thumbs:down, "seconds>2", since:2h.',
    ),
]


@app.command()
def show(
    identifier: Annotated[str, typer.Argument(help="The id of an interaction; without it, the newest ones.")] = "",
    filter_: FilterOption = "",
    limit: Annotated[int, typer.Option(help="How many rows.")] = 20,
    workspace: WorkspaceOption = None,
) -> None:
    """List interactions, newest first, or print one as JSON.

    Example: `lmworks log show --filter 'abstained:yes since:1d'`
    """
    import json

    from rich.table import Table

    from lmworks.ground.answer_text import unfenced
    from lmworks.workspace import read_interaction, read_log

    folder = resolve_workspace(workspace)
    if identifier:
        typer.echo(json.dumps(to_mapping(read_interaction(folder, identifier)), indent=1, ensure_ascii=False))
        return
    table = Table(box=None, expand=True)
    for column, width in (("id", 16), ("time", 16), ("question", None), ("answer", None), ("marks", 10)):
        table.add_column(column, width=width, no_wrap=True, ratio=None if width else 1)
    with read_log(folder) as reader:
        for row in reader.find(filter_, limit):
            marks = (f"thumbs {row.thumbs}" if row.thumbs else "", "abstained" if row.abstained else "", row.error)
            texts = (" ".join(row.question.split()), unfenced(row.response))
            table.add_row(row.id, moment(row.time), *map(shown, texts), ", ".join(filter(None, marks)))
    new_console().print(table if table.row_count else f"nothing {'passes the filter' if filter_ else 'is logged yet'}")


@app.command()
def export(
    to: Annotated[str, typer.Argument(help="A .parquet file, a .json file (OTLP), or an OTLP/HTTP endpoint.")],
    filter_: FilterOption = "",
    content: Annotated[
        bool | None,
        typer.Option(help="With the texts, or only names and numbers. Default: with them to Parquet, without to OTLP."),
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Write interactions to Parquet, or send them as OpenTelemetry spans to an endpoint that you name.

    Examples: `lmworks log export week.parquet --filter since:7d` ·
    `lmworks log export http://127.0.0.1:4318/v1/traces`
    """
    from lmworks.workspace import read_log

    if not to.endswith((".parquet", ".json")) and not to.startswith(("http://", "https://")):
        raise ValueError(f"{to}: give a .parquet file, a .json file (OTLP), or an http:// or https:// endpoint")
    with read_log(resolve_workspace(workspace)) as reader:
        if to.endswith(".parquet"):
            from lmworks.monitor.export import to_parquet

            count = to_parquet(reader, Path(to), filter_, content=content is not False)
        else:
            from lmworks.monitor.otlp import export_otlp

            count = export_otlp(reader, to, filter_, content=bool(content))
    typer.echo(f"{count} interaction{'' if count == 1 else 's'} -> {to}")


@app.command()
def rows(
    out: Annotated[Path, typer.Argument(help="The .jsonl file to make; must not exist.")],
    kind: Annotated[
        Literal["preference", "kto"], typer.Option(help="Pairs of answers, or single answers with a label.")
    ],
    filter_: FilterOption = "",
    workspace: WorkspaceOption = None,
) -> None:
    """Write what people said about answers as rows to train on, and count what cannot be used.

    kto: the answers with a thumb. preference: answers to one prompt with opposite thumbs, the votes of the page Compare
    and the rankings of the page Rank; the filter is for the log alone.

    Example: `lmworks log rows thumbs.jsonl --kind kto --filter since:30d`, then `lmworks rows lint thumbs.jsonl`
    """
    from collections import Counter

    from lmworks.align.collected_rows import preference_rows, thumbed_rows
    from lmworks.data.training_rows import write_preference_rows
    from lmworks.evaluate.release.votes import RANKINGS, VOTES, read_votes
    from lmworks.workspace import read_log

    check_new(out)
    folder, left_out = resolve_workspace(workspace), Counter[str]()
    with read_log(folder) as reader:
        thumbed = thumbed_rows(reader.interactions(filter_), left_out)
    made: list = list(thumbed)
    if kind == "preference":
        votes = []
        for name in (VOTES, RANKINGS):
            read, left_out[f"unreadable lines of {name}"] = read_votes(folder / name)
            votes += read
        made = list(preference_rows(thumbed, votes, left_out))
    for reason, count in left_out.most_common():
        if count:
            typer.echo(f"not used: {count:,} {reason}", err=True)
    if not made:
        others = ", and votes on Compare and rankings on Rank" if kind == "preference" else ""
        raise ValueError(f"nothing in {folder} gives such a row: thumbs on the pages Chat and Log do{others}")
    write_preference_rows(out, made)
    typer.echo(f"{len(made):,} row{'' if len(made) == 1 else 's'} -> {out}")


@app.command()
def prune(
    days: Annotated[float, typer.Argument(help="Delete what is older than this many days.")],
    workspace: WorkspaceOption = None,
) -> None:
    """Delete old interactions for good, with their feedback. `[log] retention_days` of a recipe does it by itself.

    Example: `lmworks log prune 30`
    """
    import time

    from lmworks.workspace import open_log, read_log

    if not 0 <= days < float("inf"):
        raise ValueError(f"days must be 0 or more, got {days}")
    folder = resolve_workspace(workspace)
    read_log(folder).close()  # a log that does not exist is an error, not an empty new one
    with open_log(folder) as log:
        count = log.prune(time.time() - days * 86400)
        typer.echo(f"{count} interaction{'' if count == 1 else 's'} deleted")


@app.command()
def replay(
    identifier: Annotated[str, typer.Argument(help="The id of an interaction.")], workspace: WorkspaceOption = None
) -> None:
    """Make an interaction again, with the same seed, and say whether the same came out.

    A language model's is compared token by token, an answer from documents sentence by sentence; what has changed since
    (weights, index, prompt) is named. Exit status 1 when it differs.
    """
    from lmworks.workspace import read_interaction

    folder = resolve_workspace(workspace)
    interaction = read_interaction(folder, identifier)  # before torch is imported: an unknown id is said at once
    from lmworks.replay import replay_interaction

    outcome = replay_interaction(folder, interaction)
    typer.echo(("same: " if outcome.same else "different: ") + outcome.reason)
    raise typer.Exit(0 if outcome.same else 1)
