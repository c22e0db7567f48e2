"""What a build with cleaned documents says at its end: where they are, and what can be done with them."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from lmworks.cli.options import CLEANED

if TYPE_CHECKING:
    from rich.console import Console

    from lmworks.build import StageOutcome


def tell_next(console: "Console", workspace: Path, cleaned: "StageOutcome", policy: str) -> None:
    """`cleaned` is the last stage data.clean of what was built in the workspace; `policy`: how one is named there."""
    from lmworks.data.cleaning.ledger import LEDGER
    from lmworks.data.store import DOCUMENTS, DocumentStore, made_folder

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
    _tell(console, "  It shows texts as they were, with the personal data that were cut: do not pass it on.")
    _tell(console, f"Cleaned documents: {folder / DOCUMENTS} ({stay:,} of them, JSON Lines)")
    if meant != folder:
        _tell(console, f"Documents that the workspace stands for: {meant / DOCUMENTS} ({left:,} of them)")
    _tell(console, "\nWhat next:")
    for command, purpose in commands:
        _tell(console, f"  {command}\n      {purpose}")
    if left:
        _tell(console, f"In a recipe, `sources = [{_in_toml(workspace)}]` of a stage data.read takes them as they are.")
    else:
        _tell(console, "No document is left to answer from or to train on: give the steps that took them other limits.")


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
    """As a shell takes it, and a terminal: names come from documents."""
    from lmworks.report import harmless

    return shlex.quote(harmless(text))


def _in_toml(path: Path) -> str:
    import json

    return json.dumps(str(path.resolve()), ensure_ascii=False)  # a relative path would start at the recipe


def _tell(console: "Console", text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
