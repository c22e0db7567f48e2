"""What `lmworks data build` says at its end: where the documents are, and what can be done with them."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def tell_next(console: "Console", workspace: Path, folder: Path, *, is_default: bool) -> None:
    """`folder` is that of the cleaned documents; `is_default`: verbs that name no workspace mean this one."""
    from lmworks.artefact import read_manifest
    from lmworks.data.cleaning.ledger import LEDGER
    from lmworks.data.store import DOCUMENTS

    stay = read_manifest(folder).metrics["documents"]
    here = "" if is_default else f" --workspace {_quoted(str(workspace))}"
    place = _quoted(str(workspace))
    commands = (
        (f"lmworks data why {_quoted(_example(folder / LEDGER))}{here}", "what became of one document, and why"),
        (f"lmworks data card{here}", "the data card, to publish with them"),
        ("lmworks data policy --out policy.toml", "the default policy, to change and name with --policy"),
        (f"lmworks up --docs {place}", "answers from these documents, served"),
        (f"lmworks build scratch --docs {place}", "a model trained on them"),
    )
    _tell(console, "  It shows texts as they were, with the personal data that were cut: do not pass it on.")
    _tell(console, f"Cleaned documents: {folder / DOCUMENTS} ({stay:,} of them, JSON Lines)\n\nWhat next:")
    for command, purpose in commands:
        _tell(console, f"  {command}\n      {purpose}")
    _tell(console, f"In a recipe, `sources = [{_in_toml(workspace)}]` of a stage data.read takes them as they are.")


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
