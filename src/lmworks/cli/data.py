"""The verb `data`: raw files into clean documents, and why each became what it is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmworks.cli.options import new_console

if TYPE_CHECKING:
    from lmworks.data.cleaning.ledger import Entry

WORKSPACE = Path(".lmworks") / "clean"
app = typer.Typer(no_args_is_help=True, help="Clean documents: build them, and ask why one was dropped or cut.")


@app.command()
def build(
    sources: Annotated[list[str], typer.Argument(help="Folders, files, archives, tables, crawls, quoted globs, addresses.")],
    policy: Annotated[Path | None, typer.Option(help="A TOML file of steps; left out: the default policy.")] = None,
    workspace: Annotated[Path, typer.Option(help="Folder for everything that is built.")] = WORKSPACE,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="NAME.key=value", help="A setting.")] = None,
) -> None:
    """Read sources, measure every document, find duplicates, and decide by a policy what stays.

    What is measured is kept, so that another policy or threshold makes only the decision anew. The report shows what
    each step took of each source, with examples; `lmworks data why` tells of one document. A corpus of several sources,
    each with its kind and licence, is a recipe of its own: see docs/cleaning.md.

    Examples: `lmworks data build notes crawl.warc.gz` · `lmworks data build books --set documents.kind=book` ·
    `lmworks data build notes --policy strict.toml`
    """
    import json

    from lmworks.cli.building import build_recipe
    from lmworks.recipe import find, load

    here = [str(Path(source).resolve()) if _is_local(source) else source for source in sources]
    settings = [f"documents.sources={json.dumps(here, ensure_ascii=False)}"]
    if policy is not None:
        settings.append(f"cleaned.policy={json.dumps(str(policy.resolve()), ensure_ascii=False)}")
    build_recipe(load(find("clean"), [*settings, *(overrides or [])]), workspace, begins_a_system=False)


def _is_local(source: str) -> bool:
    from lmworks.data.config import PYTHON_DOCS
    from lmworks.data.readers.source import is_url

    return source != PYTHON_DOCS and not is_url(source)


@app.command()
def why(
    document: Annotated[str, typer.Argument(help="The document: its uri as the report has it, its hash or 8 digits of it.")],
    workspace: Annotated[Path, typer.Option(help="The workspace, or the folder that data.clean made.")] = WORKSPACE,
) -> None:
    """Tell what became of one document, step by step: what was measured, what was cut, who its twin is.

    Example: `lmworks data why notes/2019/plan.md`
    """
    from lmworks.data.cleaning.ledger import LEDGER, read_ledger

    entries = list(read_ledger(_cleaned(workspace) / LEDGER, document))
    if not entries:
        raise LookupError(
            f"the ledger of {workspace} knows no document {document}: give its uri, which begins with the name of the "
            "source's folder, or the first 8 or more digits of its hash. What no reader could read is in left_out.jsonl"
        )
    for uri in dict.fromkeys(entry.document for entry in entries):
        _tell([entry for entry in entries if entry.document == uri])


def _cleaned(workspace: Path) -> Path:
    """The folder with the ledger; FileNotFoundError where there is none."""
    from lmworks.build import read_current
    from lmworks.data.cleaning.ledger import LEDGER

    if (workspace / LEDGER).is_file():
        return workspace
    folders = [workspace / folder for folder in read_current(workspace).stages.values()]
    found = [folder for folder in folders if (folder / LEDGER).is_file()]
    if not found:
        raise FileNotFoundError(f"{workspace} holds no ledger: `lmworks data build` makes one")
    return found[-1]


def _tell(entries: "list[Entry]") -> None:
    from rich.table import Table

    from lmworks.report import shown

    first, last = entries[0], entries[-1]
    console = new_console()
    language = f", language {first.language}" if first.language else ""
    console.print(f"\n{shown(first.document)}", style="bold", highlight=False)
    console.print(f"hash {first.hash[:16]}…, of the source {first.source}, kind {first.kind}{language}", highlight=False)
    table = Table("step", "verdict", "characters", "why", box=None)
    for entry in entries:
        change = f"{entry.characters_before:,}"
        if entry.characters_after != entry.characters_before:
            change += f" → {entry.characters_after:,}"
        table.add_row(entry.step, entry.verdict, change, shown("\n".join(_reasons(entry))))
    console.print(table, highlight=False)
    stays = last.verdict in ("kept", "cut")
    console.print("it stays" if stays else "it does not stay", highlight=False)


def _reasons(entry: "Entry") -> list[str]:
    told = []
    for reason in entry.reasons:
        value = "" if reason.value is None else f" {reason.value:.4g}"
        threshold = "" if reason.threshold is None else f", where the policy has {reason.threshold:.4g}"
        label = "" if reason.label is None else f" {reason.label}"
        twin = "" if reason.twin is None else f", as {reason.twin} stays"
        told.append(f"{reason.rule}{value}{label}{threshold}{twin}")
    rules = dict.fromkeys(cut.rule for cut in entry.cuts)
    for rule in rules:
        cuts = [cut for cut in entry.cuts if cut.rule == rule]
        characters = sum(cut.end - cut.start for cut in cuts)
        told.append(f"{rule}: {len(cuts)} places, {characters:,} characters")
    return told
