"""Words of the verbs: lines as they are, pages with a report, files that were left out; and settings by `--set`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lmworks.cli.options import new_console

if TYPE_CHECKING:
    from lmworks.records import RejectedRecord
    from lmworks.report import Section


def say(text: str) -> None:
    """Print lines whose words are neither broken nor marked up, so that paths and commands can be copied; what acts on
    a terminal, as the name of a file may, is shown."""
    from lmworks.report import harmless

    new_console().print(harmless(text), markup=False, highlight=False, soft_wrap=True)


def say_rejected(rejected: "Sequence[RejectedRecord]") -> None:
    """Print the number of files that were left out for each reason, the most frequent first, and one of them."""
    reasons: dict[str, list[RejectedRecord]] = {}
    for record in rejected:
        reasons.setdefault(record.reason.split(":")[0], []).append(record)
    counts = {reason: sum(record.count for record in records) for reason, records in reasons.items()}
    for reason, count in sorted(counts.items(), key=lambda pair: -pair[1]):
        files = f"{count:,} file{'' if count == 1 else 's'}"
        say(f"left out because {reason}: {files}, such as {reasons[reason][0].uri}")


def write_page(out: Path | None, title: str, lead: str, sections: "Sequence[Section]") -> None:
    """Write sections as one HTML page and say where it is, if a file is named."""
    from lmworks.artefact import write_text
    from lmworks.report import to_html

    if out is not None:
        write_text(out, to_html(title, lead, sections))
        typer.echo(f"report -> {out}")


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """ValueError, with what is meant and what is allowed."""
    from lmworks.config import unknown

    if value not in allowed:
        raise ValueError(unknown(name, value, allowed))
