"""The command line: thin verbs over functions that can be called from Python just as well."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from lmworks.records import Answer
    from lmworks.system import System

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""From raw documents to grounded answers with citations, on your own machine.

    Start with `lmworks up` (the documentation that comes with Python) or `lmworks up --docs FOLDER` (your own files);
    then `lmworks ask "..."`.
    """,
)

WORKSPACES = Path(".lmworks")
LAST = ".last"  # the file below it that names the workspace built last

RecipeArgument = Annotated[
    str, typer.Argument(help="A recipe file, or the name of one that comes with lmworks: assistant, documents.")
]
DocsOption = Annotated[
    Path | None,
    typer.Option(help="Build over this folder of .md .txt .rst .html .py files instead.", exists=True, file_okay=False),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME.key=value", help="Override a value of the recipe; may be repeated."),
]
WorkspaceOption = Annotated[
    Path | None,
    typer.Option(help="Where the system is kept. Default: .lmworks/NAME for a build, the last one built otherwise."),
]


@app.command()
def up(
    recipe: RecipeArgument = "assistant",
    docs: DocsOption = None,
    overrides: SetOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Build a system, show its report, answer a sample question, and go on answering.

    The first build pulls the default models (about 180 MB) and takes minutes; later ones take seconds, because every
    stage is kept and only what changed is made again. Questions are read from the terminal until an empty line.

    Example: `lmworks up --docs ./handbook`
    """
    folder = _build(recipe, docs, overrides, workspace, pull_missing=True)
    console = _console()
    import lmworks
    from lmworks.report import shown

    system = lmworks.open(folder)
    if system.current.question:
        console.print(f"\n[bold]Q[/bold] {shown(system.current.question)}", highlight=False)
        show_answer(console, system.ask(system.current.question))
    if sys.stdin.isatty():
        _ask_in_turn(console, system)
    console.print(
        f'\nNext: [bold]lmworks ask[/bold] "..."  ·  read {folder / "report.html"}  ·  '
        "your own folder: [bold]lmworks up --docs FOLDER[/bold]",
        highlight=False,
    )


@app.command()
def build(
    recipe: RecipeArgument = "assistant",
    docs: DocsOption = None,
    overrides: SetOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Make every artefact of a recipe that does not exist yet, and the report.

    Safe to stop and to repeat: what is finished stays, an interrupted stage goes on where it was, and a change of one
    file or one setting makes only what depends on it.

    Example: `lmworks build my-recipe.toml --set index.chunk.target_tokens=120`
    """
    _build(recipe, docs, overrides, workspace, pull_missing=False)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    workspace: WorkspaceOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole answer as JSON.")] = False,
) -> None:
    """Answer from the documents with citations, or say "I don't know" and offer the nearest passages.

    Every sentence of an answer carries the place it comes from. `lmworks lineage ID` leads from the answer back to the
    documents, weights and evaluation behind it.

    Example: `lmworks ask "What does the with statement do?"`
    """
    import lmworks

    answer = lmworks.open(workspace or last_workspace()).ask(question)
    if as_json:
        import json

        from lmworks.config import to_mapping

        typer.echo(json.dumps(to_mapping(answer), indent=1, ensure_ascii=False))
    else:
        show_answer(_console(), answer)


@app.command()
def pull(name: Annotated[str, typer.Argument(help="smollm2-135m-instruct or all-minilm-l6-v2")]) -> None:
    """Fetch the weights of a model into the cache, once, checked by their checksum.

    The cache is `$LMWORKS_HOME`, by default `~/.cache/lmworks`. This is the only verb that fetches weights; `up` calls
    it for the models of its recipe. A Hugging Face folder or a GGUF file on disk needs no pull: name it in the recipe.
    """
    typer.echo(_pull(name))


@app.command()
def lineage(
    target: Annotated[str, typer.Argument(help="The id of an answer, the name of a stage, or an artefact's folder.")],
    workspace: WorkspaceOption = None,
) -> None:
    """Show where an answer or an artefact comes from: spans, documents, settings, weights, evaluation.

    Example: `lmworks lineage index`
    """
    from lmworks.lineage import trace

    _console().print(trace(workspace or last_workspace(), target))


@app.command()
def stage(
    use: Annotated[str, typer.Argument(help="The stage, e.g. data.read; without it, the list.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder to make; must not exist.")] = None,
    inputs: Annotated[list[Path] | None, typer.Option("--from", help="Artefact to read from; may be repeated.")] = None,
    models: Annotated[list[str] | None, typer.Option("--model", metavar="ROLE=NAME", help="A model it needs.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="key=value", help="Its config.")] = None,
) -> None:
    """Run one stage alone, without a recipe: take a part and leave the rest.

    Example: `lmworks stage data.read --set 'sources=["docs"]' --out documents`
    """
    from lmworks.build import run_alone
    from lmworks.stages import STAGES

    if use and out is None:
        raise ValueError("name the folder to make with --out")
    if not use or out is None:
        from rich.table import Table

        table = Table("stage", "what it does", "models", box=None)
        for name, entry in STAGES.items():
            table.add_row(name, entry.purpose, ", ".join(entry.models))
        _console().print(table)
        return
    outcome = run_alone(use, out, inputs or [], models or [], overrides or [], _console())
    typer.echo(f"{outcome.folder} ({outcome.manifest.content_hash[:12]})")


def main() -> None:
    """Run the command line; an error that a user can mend is one message, without a traceback."""
    from lmworks.artefact import LockedError
    from lmworks.config import ConfigError
    from lmworks.model.pulling import PullError
    from lmworks.recipe import RecipeError

    # Threads of OpenMP that wait by spinning take the processor from each other when anything else runs on the machine;
    # the setting is read when torch is loaded, so it stands here, before any verb imports it.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        app()
    except (ConfigError, RecipeError, LockedError, PullError, OSError, ValueError) as error:
        typer.secho(f"lmworks: {error}", fg="red", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.secho("\nlmworks: stopped; the same command goes on from here", err=True)
        sys.exit(130)


def show_answer(console: "Console", answer: "Answer") -> None:
    """Print an answer with its sources, or the abstention with the nearest passages."""
    from rich.padding import Padding

    from lmworks.report import shown

    console.print(Padding(shown(answer.text), (0, 0, 0, 2)), highlight=False)
    if answer.abstained and answer.nearest:
        console.print("  Nearest passages:", style="dim")
        for passage in answer.nearest:
            first = " ".join(passage.text.split())[:110]
            console.print(f"    {shown(passage.uri)}  [dim]{shown(first)}…[/dim]", highlight=False)
    for number, citation in enumerate(answer.citations, start=1):
        span = citation.evidence
        place = f"{shown(citation.uri)} [dim]characters {span.start}-{span.end}[/dim]"
        console.print(f"  \\[{number}] {place}", highlight=False)
    seconds = answer.timings.get("total", 0.0)
    console.print(
        f"  confidence {answer.confidence:.2f} · {seconds:.1f} s · answer {answer.id}", style="dim", highlight=False
    )


def _ask_in_turn(console: "Console", system: "System") -> None:
    try:
        while question := console.input("\n[bold]Q[/bold] (empty line to end) ").strip():
            show_answer(console, system.ask(question))
    except EOFError:
        console.print()


def _build(
    recipe: str, docs: Path | None, overrides: list[str] | None, workspace: Path | None, *, pull_missing: bool
) -> Path:
    """Check the recipe, build it, show its report; returns the workspace."""
    import json

    from lmworks.build import build as run
    from lmworks.build import sections
    from lmworks.recipe import find, load
    from lmworks.report import print_sections, shown

    settings = list(overrides or [])
    if docs is not None:
        recipe = "documents" if recipe == "assistant" else recipe
        settings = [
            f"documents.sources={json.dumps([str(docs.resolve())], ensure_ascii=False)}",
            f"name={json.dumps(docs.resolve().name, ensure_ascii=False)}",
            *settings,
        ]
    checked = load(find(recipe), settings)
    folder = workspace or WORKSPACES / checked.name
    if pull_missing:
        for source in checked.models.values():
            if not (checked.base / source).exists():
                _pull(source)
    console = _console()
    outcomes = run(checked, folder, console)
    WORKSPACES.mkdir(exist_ok=True)
    (WORKSPACES / LAST).write_text(str(folder.resolve()), "utf-8")
    print_sections(console, sections(outcomes))
    console.print(f"\nReport: {shown(str(folder / 'report.html'))}", highlight=False)
    return folder


def last_workspace() -> Path:
    """The workspace that was built last from the current folder; FileNotFoundError when there is none."""
    pointer = WORKSPACES / LAST
    if not pointer.is_file():
        raise FileNotFoundError("no system was built in this folder; run `lmworks up`, or name one with --workspace")
    return Path(pointer.read_text("utf-8").strip())


def _pull(name: str) -> Path:
    from lmworks.model.pulling import pull as fetch

    return fetch(name)


def _console() -> "Console":
    from rich.console import Console

    return Console(emoji=False)  # a document that says :key: shall show :key:
