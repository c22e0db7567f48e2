"""Words of the verbs: lines as they are, sections of a report, files that were left out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lmworks.artefact import write_text
from lmworks.config import unknown
from lmworks.records import RejectedRecord
from lmworks.report import Section, Table, harmless, print_sections, print_table, to_html

if TYPE_CHECKING:
    from rich.console import Console


def new_console() -> "Console":
    from rich.console import Console

    return Console(emoji=False)  # a document that says :key: shall show :key:


def say(text: str) -> None:
    """Print lines whose words are neither broken nor marked up, so that paths and commands can be copied; what acts on
    a terminal, as the name of a file may, is shown."""
    new_console().print(harmless(text), markup=False, highlight=False, soft_wrap=True)


def show_sections(sections: Sequence[Section], out: Path | None = None, title: str = "", lead: str = "") -> None:
    """Print sections and, if a file is named, write them as one HTML page."""
    print_sections(new_console(), sections)
    if out is not None:
        write_text(out, to_html(title, lead, sections))
        typer.echo(f"report -> {out}")


def show_table(heads: Sequence[str], rows: Sequence[tuple[str | int | float, ...]], title: str = "") -> None:
    print_table(new_console(), Table(tuple(heads), tuple(rows), title))


def say_rejected(rejected: Sequence[RejectedRecord]) -> None:
    """Print the number of files that were left out for each reason, the most frequent first, and one of them."""
    reasons: dict[str, list[RejectedRecord]] = {}
    for record in rejected:
        reasons.setdefault(record.reason.split(":")[0], []).append(record)
    counts = {reason: sum(record.count for record in records) for reason, records in reasons.items()}
    for reason, count in sorted(counts.items(), key=lambda pair: -pair[1]):
        files = f"{count:,} file{'' if count == 1 else 's'}"
        say(f"left out because {reason}: {files}, such as {reasons[reason][0].uri}")


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """ValueError, with what is meant and what is allowed."""
    if value not in allowed:
        raise ValueError(unknown(name, value, allowed))
