"""Verbs that make things: up, build, stage, pull."""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from lmworks.artefact import REPORT, STAGE_FOLDERS
from lmworks.cli.options import (
    CLEANED,
    WORKSPACES,
    DocsOption,
    RecipeArgument,
    SetOption,
    WorkspaceOption,
    remember,
    resolve_workspace,
)
from lmworks.cli.output import new_console, say, show_sections, show_table
from lmworks.cli.verb_settings import settings_help
from lmworks.config import ConfigError, described, unknown
from lmworks.report import harmless, shown

if TYPE_CHECKING:
    from lmworks.build import StageOutcome
    from lmworks.recipe import Recipe

_OVER = " over "  # in the description of a recipe, between what it is and the documents that `--docs` replaces


def up(
    recipe: RecipeArgument = "assistant",
    docs: DocsOption = None,
    overrides: SetOption = None,
    workspace: WorkspaceOption = None,
    port: Annotated[int | None, typer.Option(help="Where to listen. Default 8000; 0 takes a free port.")] = None,
) -> None:
    """Build a system and serve it: pages for people and an OpenAI-compatible API.

    The first build pulls the default models (about 180 MB) and takes some minutes, for a small folder less; later ones
    take seconds, because every stage is kept and only what changed is made again. The page opens as soon as answers can
    be given; how good they are is measured meanwhile, and stands on the page Evaluation. Ctrl-C stops all.

    Example: `lmworks up --docs ./handbook`
    """
    from lmworks.cli.serve_command import serve_config, serve_workspace
    from lmworks.serve.listener import check_address

    checked, folder = checked_recipe(recipe, docs, overrides, workspace)
    config = serve_config(checked.serve, {} if port is None else {"port": port})
    check_address(config)  # a taken port or a key that is not set is an error before the build, not after it
    checked.writing.api_key()
    from lmworks.compiled import choose_device
    from lmworks.serve.served_models import check_adapters, served_names

    paths = {
        role: str(checked.base / source if (checked.base / source).exists() else fetch(source))
        for role, source in checked.models.items()
    }
    check_adapters(served_names(paths, checked.models), config.adapters)
    choose_device(config.device, config.weights)
    build_recipe(checked, folder, show_report=False, answers_first=True)
    given = [*(["--docs", str(docs)] if docs else []), *(part for one in overrides or [] for part in ("--set", one))]
    building = [sys.executable, "-m", "lmworks", "build", recipe, *given, "--workspace", str(folder)]
    serve_workspace(folder, config, building=building)


def build(
    recipe: RecipeArgument = "assistant",
    docs: DocsOption = None,
    overrides: SetOption = None,
    workspace: WorkspaceOption = None,
    candidate: Annotated[
        bool, typer.Option("--candidate", help="Leave what is live as it is: the version waits for `lmworks promote`.")
    ] = False,
) -> None:
    """Build a recipe: make every artefact that does not exist yet, then the report.

    You can stop it and run it again: finished artefacts are reused, an interrupted stage resumes, and a changed file or
    setting rebuilds only what depends on it.

    Example: `lmworks build my-recipe.toml --set index.chunk.target_tokens=120`
    """
    from lmworks.cli.serve_command import serve_config

    checked, folder = checked_recipe(recipe, docs, overrides, workspace)
    serve_config(checked.serve)
    build_recipe(checked, folder, show_report=True, candidate=candidate)


_NAMES = "smollm2-135m-instruct, all-minilm-l6-v2, or qwen2.5-coder-1.5b-instruct (1.1 GB; never a default)"


def pull(name: Annotated[str, typer.Argument(help=_NAMES)]) -> None:
    """Download the weights of a model into the cache and verify their checksum.

    The cache is `$LMWORKS_HOME`, by default `~/.cache/lmworks`. This is the only verb that fetches weights; `up` calls
    it for the models of its recipe. A Hugging Face folder or a GGUF file on disk needs no pull: name it in the recipe.
    """
    typer.echo(fetch(name))


class StageCommand(TyperCommand):
    """The verb `stage`, whose help is that of the stage it is given, and then that of the verb: `lmworks stage
    corpus.read --help`."""

    use = ""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        from lmworks.stages import STAGES, stage_name

        args = [stage_name(word) for word in args]
        named = args[0] if args and not args[0].startswith("-") else ""
        self.use = next((name for name in args if name in STAGES), named)
        if self.use:
            self.help, self.epilog = _stage_help(self.use), None
        else:
            self.epilog = _stage_help(self.use)
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The usage of the stage that is named, in place of that of the verb."""
        return _usage(self.use) if self.use else super().collect_usage_pieces(ctx)


def _usage(use: str) -> list[str]:
    from lmworks.stages import STAGES

    entry = STAGES[use]
    inputs = ["--from FOLDER ..."] if entry.inputs else []
    models = [f"--model {role}=NAME" for role in entry.models]
    models += [f"[--model {role}=NAME]" for role in entry.optional]
    return [use, *inputs, *models, "[--set key=value ...]", "--out FOLDER"]


def _stage_help(use: str) -> str:
    """The help of a stage in Markdown: its inputs and its settings; without a stage, the list of stages."""
    from lmworks.stage import resolve
    from lmworks.stages import STAGES, meant_stages

    if not use:
        names = ", ".join(f"`{name}`" for name in STAGES)
        return f"`lmworks stage NAME --help` lists the inputs and settings of a stage. The stages: {names}"
    if use not in STAGES:
        raise ConfigError((), unknown("stage", use, list(STAGES), meant_stages(use)))
    entry = STAGES[use]
    config: Any = resolve(entry.config)
    lines = [f"**{use}**: {entry.purpose}."]
    lines += [f"- `--from` {text}" for text in entry.inputs] or ["- it reads from no other stage"]
    lines += [f"- `--model {role}=NAME` a pulled model, or the path of one" for role in entry.models]
    lines += [f"- `--model {role}=NAME` may be left out" for role in entry.optional]
    lead = f"What `--set` takes for {use}, with the defaults:"
    lines.append(settings_help(lead, config) if described(config) else "There is nothing to set.")
    return "\n\n".join(lines)


def stage(
    use: Annotated[str, typer.Argument(help="The stage, e.g. corpus.read; without it, the list.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder to make; must not exist.")] = None,
    inputs: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Artefact to read from, or a workspace: its documents; may be repeated."),
    ] = None,
    models: Annotated[list[str] | None, typer.Option("--model", metavar="ROLE=NAME", help="A model it needs.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="key=value",
            help="A setting, of `lmworks stage NAME --help`. Large numbers may be 5M or 1e6.",
        ),
    ] = None,
) -> None:
    """Run one stage without a recipe.

    Prints what was made and what was left out, and the folder with it, in which `report.html` shows the same, with
    its curves. Inputs are checked against their manifests first.

    Example: `lmworks stage corpus.read --set 'sources=["docs"]' --out documents`
    """
    from lmworks.build import run_alone, stage_sections
    from lmworks.stages import STAGES

    if use and out is None:
        raise ValueError("name the folder to make with --out")
    if not use or out is None:
        rows = tuple((name, entry.purpose, ", ".join(entry.models)) for name, entry in STAGES.items())
        show_table(("stage", "what it does", "models"), rows)
        return
    console = new_console()
    outcome = run_alone(use, out, inputs or [], models or [], overrides or [], console)
    show_sections(stage_sections(outcome))
    console.print(f"\nReport: {shown(str(outcome.folder / REPORT))}", highlight=False, soft_wrap=True)
    typer.echo(f"{outcome.folder} ({outcome.manifest.content_hash[:12]})")


def fetch(name: str) -> Path:
    from lmworks.model.download import pull as pull_model

    return pull_model(name, lambda line: typer.echo(line, err=True))


def checked_recipe(
    recipe: str, docs: Path | None, overrides: list[str] | None, workspace: Path | None
) -> tuple["Recipe", Path]:
    """The recipe, checked whole, and the workspace it is built in."""
    from dataclasses import replace

    from lmworks.corpus.documents import made_folder
    from lmworks.recipe import find, load

    settings = list(overrides or [])
    if docs is not None:
        name = docs.resolve().name
        if made_folder(docs) is not None:  # in a workspace of its own, next to the one that is read
            name = f"{name}-{Path(recipe).stem}"
        recipe = "documents" if recipe == "assistant" else recipe
        settings = [
            f"documents.sources={json.dumps([str(docs.resolve())], ensure_ascii=False)}",
            f"name={json.dumps(name, ensure_ascii=False)}",
            'question=""',  # the recipe's own is about its own documents
            *settings,
        ]
    checked = load(find(recipe), settings)
    if docs is not None:
        kind, where = checked.description.split(_OVER)[0], f"documents in {docs.resolve().name}"
        checked = replace(checked, description=f"{kind}{_OVER}the {where}" if kind else f"The {where}")
    return checked, resolve_workspace(workspace, WORKSPACES / checked.name)


def _check_apart(sources: Sequence[str], workspace: Path) -> None:
    """ValueError where a workspace would be built from what was built in it before."""
    from lmworks.corpus.sources.files import is_url, without_scheme

    own = workspace.resolve()
    for source in sources:
        path = Path(without_scheme(source)).resolve()
        if not is_url(source) and (path == own or path.is_relative_to(own / STAGE_FOLDERS)):
            raise ValueError(
                f"{source} is in the workspace to build in, which cannot be a source of itself: name another one with "
                "--workspace"
            )


def build_recipe(
    recipe: "Recipe",
    folder: Path,
    *,
    show_report: bool = True,
    begins_a_system: bool = True,
    answers_first: bool = False,
    candidate: bool = False,
) -> None:
    """Build a recipe and say where its report is, or show it, and then what can be done with documents that it cleaned;
    `begins_a_system`: later verbs are of what it made, and no policy was named by an option of the verb;
    `answers_first` and `candidate` as of `lmworks.build.build`."""
    from lmworks.build import build as run
    from lmworks.build import sections
    from lmworks.corpus.read.stage import left_out
    from lmworks.corpus.sources.files import without_scheme
    from lmworks.workspace import calibration_caution, read_current

    for spec in recipe.stages:
        if spec.use == "corpus.read":
            _check_apart([str(recipe.base / without_scheme(source)) for source in spec.config.sources], folder)
    console = new_console()
    outcomes: list[Any] = run(recipe, folder, console, answers_first=answers_first, candidate=candidate)
    for outcome in outcomes:
        if outcome.manifest.stage == "corpus.read":
            for line in left_out(outcome.folder, outcome.name):
                say(line)
    if begins_a_system:
        remember(folder)
    if show_report:
        show_sections(sections(outcomes))
    elif caution := calibration_caution(folder, read_current(folder)):  # else a section says it
        console.print(f"\n{caution}", style="yellow", highlight=False)
    console.print(f"\nReport: {shown(str(folder / 'report.html'))}", highlight=False)
    cleaned = [each for each in outcomes if each.manifest.stage == "corpus.filter"]
    for outcome in outcomes if show_report else ():
        if outcome.manifest.stage == "data.tokenize":
            say(f"Token shards: {folder / STAGE_FOLDERS / outcome.name}, as a SourceConfig names them")
    if show_report and cleaned:
        policy = f"--set {cleaned[-1].name}.policy=FILE" if begins_a_system else "--policy"
        print_next_steps(folder, cleaned[-1], policy)


def print_next_steps(workspace: Path, cleaned: "StageOutcome", policy: str) -> None:
    """`cleaned` is the last corpus.filter of what was built in the workspace; `policy`: how one is named there."""
    from lmworks.corpus.documents import DOCUMENTS, DocumentStore, made_folder
    from lmworks.corpus.filtering.ledger import LEDGER

    stay, folder = cleaned.manifest.metrics["documents"], cleaned.folder
    meant = made_folder(workspace) or folder  # by other verbs, where the workspace is named
    left = stay if meant == folder else len(DocumentStore(meant))
    here = "" if workspace == CLEANED else f" --workspace {_quoted(str(workspace))}"
    place = _quoted(str(workspace))
    commands = [
        (f"lmworks data why {_quoted(_example(folder / LEDGER))}{here}", "what became of one document, and why"),
        (f"lmworks data card{here}", "the data card, to publish with them"),
        ("lmworks data policy --out policy.toml", f"the default policy, to change and name with {policy}"),
    ]
    if left:
        commands += [
            (f"lmworks up --docs {place}", "answers from these documents, served"),
            (f"lmworks build scratch --docs {place}", "a model trained on them"),
        ]
    say("  It shows texts as they were, with the personal data that were cut: do not pass it on.")
    say(f"Cleaned documents: {folder / DOCUMENTS} ({stay:,} of them, JSON Lines)")
    if meant != folder:
        say(f"Documents that the workspace stands for: {meant / DOCUMENTS} ({left:,} of them)")
    say("\nWhat next:")
    for command, purpose in commands:
        say(f"  {command}\n      {purpose}")
    if left:
        source = json.dumps([str(workspace.resolve())], ensure_ascii=False)  # a relative path would start at the recipe
        say(f"In a recipe, `sources = {source}` of a stage corpus.read takes them as they are.")
    else:
        say("No document is left to answer from or to train on: give the steps that took them other limits.")


def _example(ledger: Path) -> str:
    """A document that a step dropped, else the first one."""
    import pyarrow.parquet as pq

    source = pq.ParquetFile(ledger)
    for number in range(source.num_row_groups):
        table = source.read_row_group(number, columns=["document", "verdict"])
        verdicts = table["verdict"].to_pylist()
        if "dropped" in verdicts:
            return table["document"][verdicts.index("dropped")].as_py()
    return source.read_row_group(0, columns=["document"])["document"][0].as_py()


def _quoted(text: str) -> str:
    """Text quoted for a shell, and harmless on a terminal: names come from documents."""

    return shlex.quote(harmless(text))
