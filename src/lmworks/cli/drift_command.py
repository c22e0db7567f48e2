"""The verbs `drift` and `alerts`: what changed in the traffic, and who is to know of it."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmworks.artefact import CURRENT
from lmworks.cli.options import WorkspaceOption, moment, resolve_workspace
from lmworks.cli.output import show_table
from lmworks.config import unknown
from lmworks.report import shown

if TYPE_CHECKING:
    from lmworks.monitor.signals import Tokenize

app = typer.Typer(no_args_is_help=True, help="Alerts over the log and over drift: run, list, mute.")


def drift(workspace: WorkspaceOption = None) -> None:
    """Compare each day's traffic with the same hours of the same weekdays before it; list the signals by evidence.

    Each day is measured once, at most 31 back, and kept. The table `[drift]` of `alerts.toml` in the workspace says how
    many false alarms a month are allowed, and which requests count. Example: `lmworks drift`
    """
    from lmworks.monitor.alerts import read_config
    from lmworks.monitor.drift import by_evidence, catch_up, read_rows
    from lmworks.workspace import open_log

    folder = resolve_workspace(workspace)
    with open_log(folder) as log:
        catch_up(log, time.time(), read_config(folder).drift, _tokenizer(folder))
        rows = read_rows(log.reader)
    if not rows:
        typer.echo("no window is over yet")
        return
    newest = [row for row in rows if row.time == rows[-1].time]
    heads = ("signal", "level", "now", "usual", "effect", "p", "adjusted", "adds up to", "n", "what")
    lines = []
    for row in by_evidence(newest):
        found = (row.value, row.expected, row.effect, row.p, row.adjusted)
        numbers = ["" if one is None else f"{one:.3g}" for one in found]
        total = f"{row.sum:.1f} of {row.limit:.1f}" if row.limit else ""
        lines.append((row.signal, row.level, *numbers, total, row.recent, row.change or row.note))
    show_table(heads, tuple(lines), f"until {moment(rows[-1].time)} (UTC)")


@app.command()
def run(
    once: Annotated[bool, typer.Option(help="Check everything once and stop.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Check the rules of `alerts.toml` in the workspace, and drift, until Ctrl-C; deliver what warns or alarms.

    Example: `lmworks alerts run --once`
    """
    from lmworks.monitor.alerts import Watch, read_config
    from lmworks.workspace import open_log

    folder = resolve_workspace(workspace)
    config = read_config(folder)
    with open_log(folder) as log:
        watch = Watch(log, config, folder, _tokenizer(folder))
        while True:
            found = watch.check(time.time())
            if once:
                typer.echo(f"{len(found)} open; {len(config.rules)} rules and drift were checked")
                return
            time.sleep(20)


@app.command("list")
def show(workspace: WorkspaceOption = None) -> None:
    """List alerts, newest first. Example: `lmworks alerts list`"""
    from lmworks.monitor.alerts import read_alerts, sentence
    from lmworks.workspace import read_log

    with read_log(resolve_workspace(workspace)) as reader:
        for one in read_alerts(reader):
            typer.echo(f"{moment(one.time)}  {one.state:<8}  {shown(sentence(one))}  {shown(one.note)}")


@app.command()
def mute(
    rule: Annotated[str, typer.Argument(help="The name of a rule, or drift.")],
    hours: Annotated[float, typer.Option(help="For how long.", min=0)] = 24,
    workspace: WorkspaceOption = None,
) -> None:
    """Deliver nothing of a rule for a while; it is shown all the same. Example: `lmworks alerts mute slow --hours 2`"""
    from lmworks.monitor import alerts
    from lmworks.workspace import open_log

    folder = resolve_workspace(workspace)
    if rule not in (names := (*alerts.read_config(folder).rules, "drift")):
        raise ValueError(unknown("rule", rule, names))
    with open_log(folder) as log:
        alerts.mute(log, rule, time.time() + 3600 * hours, time.time())
    typer.echo(f"{rule} is not delivered for {hours:g} h")


def _tokenizer(folder: Path) -> "Tokenize | None":
    """The tokens of the first model of the workspace that has a tokenizer file, for the share of rare ones."""
    from lmworks.tokenizer.tokenizer import Tokenizer
    from lmworks.workspace import read_current

    paths = read_current(folder).models.values() if (folder / CURRENT).exists() else ()
    for path in map(Path, paths):
        if (path / "tokenizer.json").is_file():
            return Tokenizer.load(path).encode
    return None
