"""The verb `data`: raw files into clean documents, and why each became what it is."""

from pathlib import Path
from typing import Annotated

import typer

from lmworks.artefact import CURRENT, check_new, write_text
from lmworks.cli import data_model_commands
from lmworks.cli.options import CLEANED
from lmworks.cli.output import new_console

OutOption = Annotated[Path | None, typer.Option(help="A new file to write instead.")]
_HELP = """Clean documents: build them, and ask why one was dropped or cut.

Its stages, which `lmworks stage NAME --help` explains: corpus.read (readers, extraction), corpus.tag (taggers),
corpus.dedup (deduplication), corpus.filter (filters), corpus.balance (mixing, upsampling), data.tokenize."""
app = typer.Typer(no_args_is_help=True, help=_HELP)


@app.command()
def build(
    sources: Annotated[
        list[str], typer.Argument(help="Folders, files, archives, tables, crawls, quoted globs, addresses, workspaces.")
    ],
    policy: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file of steps, which take the place of all default ones; `lmworks data policy` prints those "
            "to begin with."
        ),
    ] = None,
    workspace: Annotated[Path, typer.Option(help="Folder for everything that is built.")] = CLEANED,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="NAME.key=value", help="A setting.")] = None,
) -> None:
    """Read sources, measure every document, find duplicates, and decide by a policy what stays.

    What is measured is kept, so that another policy or threshold repeats only the decision. The report shows what
    each step took of each source, with examples; `lmworks data why` explains one document. What stays is JSON Lines in
    the folder that is named at the end, and can be read by other verbs: `lmworks build scratch --docs .lmworks/clean`.
    Plain text and rows of tables are of the kind text, at which the default limits on quality do not look: crawled
    pages in JSON Lines need `--set documents.kind=web`. A corpus of several sources, each with its kind and licence, is
    a recipe of its own: see docs/cleaning.md.

    Examples: `lmworks data build notes crawl.warc.gz` · `lmworks data build books --set documents.kind=book` ·
    `lmworks data build notes --policy strict.toml`
    """
    import json
    from dataclasses import replace

    from lmworks.cli.build_command import build_recipe
    from lmworks.recipe import find, load

    _check_folder(workspace)
    if not all(source.strip() for source in sources):
        raise ValueError("a source is empty: name a folder, a file or a glob; the folder itself is called .")
    if policy is not None and not policy.is_file():
        state = "is a folder" if policy.is_dir() else "is not there"
        raise FileNotFoundError(
            f"--policy {policy} {state}: name a TOML file of steps, or leave it out for the default"
        )
    here = [_in_full(source) if _is_local(source) else source for source in sources]
    settings = [f"documents.sources={json.dumps(here, ensure_ascii=False)}"]
    if policy is not None:
        settings.append(f"cleaned.policy={json.dumps(str(policy.resolve()), ensure_ascii=False)}")
    recipe = load(find("clean"), [*settings, *(overrides or [])])
    # Relative paths of settings are those of whoever types them, not of the packaged recipe.
    build_recipe(replace(recipe, base=Path.cwd()), workspace, begins_a_system=False)


def _check_folder(workspace: Path) -> None:
    """NotADirectoryError where the workspace, or a folder it would lie in, is a file."""
    for path in (workspace, *workspace.parents):
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(f"--workspace {workspace}: {path} is a file, and a folder is wanted")


def _in_full(source: str) -> str:
    """A path from the current folder or, with a tilde that no shell expands within quotes, from home."""
    from lmworks.corpus.sources.files import without_scheme

    return str(Path(without_scheme(source)).expanduser().resolve())


def _is_local(source: str) -> bool:
    from lmworks.corpus.read.config import NAMED_SOURCES
    from lmworks.corpus.sources.files import is_url

    return source not in NAMED_SOURCES and not is_url(source)


@app.command()
def why(
    document: Annotated[
        str, typer.Argument(help="Its uri as the report has it, the end of that, a hash of it, or 8 digits of that.")
    ],
    workspace: Annotated[Path, typer.Option(help="The workspace, or the folder that corpus.filter made.")] = CLEANED,
    made_from: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            help="Where the documents, annotations and duplicates that it was made from are, if neither in the same "
            "workspace nor next to it: an artefact or a workspace; may be repeated.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All that is known of it, for programs.")] = False,
) -> None:
    """Explain why a document was kept, cut or dropped: what each step did, by which rule, value and threshold, what
    it only just passed, and the duplicate that was kept in its place. Of a file that no reader could read, the reason.

    Examples: `lmworks data why notes/2019/plan.md` · `lmworks data why plan.md --json`
    """
    import json
    from dataclasses import asdict

    from lmworks.cli.data_why_command import print_explanation, print_rejected
    from lmworks.corpus.report.why import to_json
    from lmworks.corpus.report.why import why as explain

    for path in made_from or []:
        if not path.is_dir():
            raise FileNotFoundError(f"--from {path}: there is no such folder; name an artefact or a workspace")
    explanations, rejected = explain(_cleaned(workspace), document, made_from or [])
    if as_json:
        result = {"documents": list(map(to_json, explanations)), "rejected": list(map(asdict, rejected))}
        typer.echo(json.dumps(result, indent=1))
        return
    for item in rejected:
        print_rejected(new_console(), item)
    for explanation in explanations:
        print_explanation(new_console(), explanation)


@app.command()
def card(
    workspace: Annotated[Path, typer.Option(help="The workspace, or the folder that corpus.filter made.")] = CLEANED,
    name: Annotated[str, typer.Option(help="What the dataset is called. Default: its largest sources.")] = "",
    out: OutOption = None,
) -> None:
    """Print the data card of cleaned documents: their sources, licences, languages and sizes, the steps with their
    thresholds, what was removed, personal data, evaluation items, duplicates, known limits, versions.

    Its layout is that of dataset cards, so that it can be the README.md of a dataset next to `documents/`.

    Example: `lmworks data card --name "Notes of 2019" --out README.md`
    """
    from lmworks.corpus.report.card import CARD, renamed

    path = _cleaned(workspace) / CARD
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} holds no data card: delete it and let `lmworks data build` rebuild it")
    text = path.read_text("utf-8")
    _give(renamed(text, name) if name else text, out)


@app.command()
def policy(out: OutOption = None) -> None:
    """Print the policy that `lmworks data build` cleans by where none is named, as TOML: its steps with their limits.

    To change it: write it to a file, edit that, and name it. The steps of the file take the place of all default ones;
    none is added to them, so delete a step to do without it.

    Example: `lmworks data policy --out policy.toml`, and then `lmworks data build notes --policy policy.toml`
    """
    from lmworks.corpus.filtering.filter_policy import default_policy_text

    _give(default_policy_text(), out)


def _give(text: str, out: Path | None) -> None:
    """Print a text, or write it to a new file and print the name of that."""
    if out is None:
        typer.echo(text, nl=False)
        return
    check_new(out)
    write_text(out, text)
    typer.echo(out)


def _cleaned(workspace: Path) -> Path:
    """The folder with the ledger, in the workspace or where its documents were read from; FileNotFoundError where there
    is none."""
    from lmworks.corpus.filtering.ledger import LEDGER
    from lmworks.corpus.read.stage import read_from
    from lmworks.workspace import read_current

    _check_folder(workspace)
    if (workspace / LEDGER).is_file():
        return workspace
    if not (workspace / CURRENT).is_file():
        raise FileNotFoundError(
            f"nothing was cleaned in {workspace}: run `lmworks data build SOURCES` first, or name the workspace of "
            "another one with --workspace"
        )
    folders = [workspace / folder for folder in read_current(workspace).stages.values()]
    found = [folder for folder in folders if (folder / LEDGER).is_file()]
    if not found:
        found = [made for folder in folders for made in read_from(folder) if (made / LEDGER).is_file()]
    if not found:
        raise FileNotFoundError(
            f"{workspace} holds no ledger, nor does what its documents were read from: `lmworks data build`, or a "
            "stage corpus.filter, makes one; name its workspace with --workspace"
        )
    return found[-1]


data_model_commands.add_to(app)
