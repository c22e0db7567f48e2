"""The verbs of `route`: a learned router, and what it would have chosen for the questions of the log."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lmworks.artefact import write_json
from lmworks.cli.options import WorkspaceOption, resolve_workspace
from lmworks.cli.output import show_sections
from lmworks.config import unknown
from lmworks.records import question_of
from lmworks.report import Section, Table

if TYPE_CHECKING:
    from lmworks.prompt.router import Router

app = typer.Typer(no_args_is_help=True, help="Which model and prompt answer: learn a router, try it on the log.")

NameArgument = Annotated[str, typer.Argument(help="The router: routers/NAME.toml in the workspace.")]
EmbedderOption = Annotated[str, typer.Option(help="Embedding model of the questions.")]


@app.command()
def fit(
    name: NameArgument,
    task: Annotated[str, typer.Option(help="A task of `lmworks prompt test` that all targets were run on.")] = "",
    metric: Annotated[str, typer.Option(help="Its metric that says what is right.")] = "exact-match",
    log: Annotated[
        str, typer.Option(help="Learn from the thumbs of the log instead: a filter, such as since:30d.")
    ] = "",
    cascade: Annotated[
        bool, typer.Option("--cascade", help="Ask the first target, and the next one where it is not sure.")
    ] = False,
    goal: Annotated[
        Literal["quality", "cost"], typer.Option(help="The least cost at that of the best target, or within --budget.")
    ] = "quality",
    margin: Annotated[float, typer.Option(min=0, help="By how much its quality may be less.")] = 0.0,
    budget: Annotated[float, typer.Option(min=0, help="Mean cost of a question at most, for --goal cost.")] = 0.0,
    embedder: EmbedderOption = "all-minilm-l6-v2",
    out: Annotated[Path | None, typer.Option(help="Write the report here, as one HTML page.")] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Learn a router on a half of the cases, price it on a quarter, and say what it does on the rest.

    Cost is tokens times billions of parameters; from the log, tokens.

    Example: `lmworks route fit auto --task domains`
    """
    from lmworks.adapt.adapter import load
    from lmworks.cli.prompt_command import open_store
    from lmworks.generate.text_embedding import TextEncoder
    from lmworks.prompt.prompt_grid import RUNS
    from lmworks.prompt.router import ROUTERS
    from lmworks.prompt.router_fit import fit_router, fit_section, logged_cases, task_cases
    from lmworks.workspace import read_log

    folder = resolve_workspace(workspace)
    router = _read(folder, name)
    if bool(task) == bool(log) or (log and cascade):
        raise ValueError("where are the outcomes? Name --task, or a filter of the log with --log, but for a cascade")
    encoder = None if cascade else TextEncoder(load(embedder))
    if log and encoder:
        with read_log(folder) as reader:
            cases = logged_cases(reader.interactions(log), router, encoder.fingerprint)
    else:
        encode = None if encoder is None else lambda texts: encoder.encode(texts, "query")
        cases = task_cases(router, open_store(workspace), folder / RUNS, task, metric, encode)
    kind, fingerprint = ("query", encoder.fingerprint) if encoder else ("cascade", "")
    found = fit_router(cases, kind, goal=goal, margin=margin, budget=budget, encoder=fingerprint)
    write_json(folder / ROUTERS / f"{name}.json", found.router)
    sections = [fit_section(found)]
    show_sections(sections, out, f"Router {name}", "Quality over cost.")


@app.command("dry-run")
def dry(
    name: NameArgument,
    filter: Annotated[str, typer.Argument(help="Which interactions, as for `lmworks log show`.")] = "",  # noqa: A002
    shown: Annotated[int, typer.Option(min=0, help="Questions that are listed.")] = 10,
    workspace: WorkspaceOption = None,
) -> None:
    """Say what the router would have chosen for the questions of the log, and why; nothing is answered.

    Example: `lmworks route dry-run auto since:7d`
    """
    from lmworks.prompt.router_fit import dry_run
    from lmworks.workspace import read_log

    folder = resolve_workspace(workspace)
    router = _read(folder, name)
    with read_log(folder) as reader:
        found = dry_run(reader.interactions(filter), router)
    kinds = Counter((target, reason.partition(":")[0]) for _, target, reason in found)
    rows = tuple((target, by, count, count / len(found)) for (target, by), count in kinds.most_common())
    listed = tuple((question_of(one.messages)[:80], target, reason) for one, target, reason in found[:shown])
    tables = (Table(("target", "by", "questions", "share"), rows), Table(("question", "target", "reason"), listed))
    show_sections([Section(f"{name} over {len(found)} questions of the log", tables=tables)])


def _read(folder: Path, name: str) -> "Router":
    from lmworks.prompt.router import ROUTERS, read_router

    path = folder / ROUTERS / f"{name}.toml"
    if not path.exists():
        names = [one.stem for one in (folder / ROUTERS).glob("*.toml")]
        raise LookupError(f"{unknown('router', name, names)}; one is written as {path} (docs/prompts.md)")
    return read_router(path)
