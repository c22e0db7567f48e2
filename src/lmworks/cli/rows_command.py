"""The verb `rows lint`: the rows that alignment learns from."""

from pathlib import Path
from typing import Annotated

import typer

from lmworks.cli.options import new_console
from lmworks.cli.output import write_page

app = typer.Typer(no_args_is_help=True, help="Rows to learn from: preferences, labels, ratings.")


@app.callback()
def _verbs() -> None:
    """Rows to learn from: preferences, labels, ratings. `lmworks log rows` and `lmworks prefer` make some."""


@app.command()
def lint(
    path: Annotated[
        Path, typer.Argument(help="Rows: .jsonl, .json, .parquet, .csv or .tsv.", exists=True, dir_okay=False)
    ],
    held_out: Annotated[
        list[Path] | None,
        typer.Option(help="Rows or items whose prompts must not be among them.", exists=True, dir_okay=False),
    ] = None,
    suite: Annotated[list[str] | None, typer.Option(help="A suite or task of `lmworks eval`, likewise.")] = None,
    data: Annotated[Path, typer.Option(help="Folder of the suite's files.")] = Path("data"),
    out: Annotated[Path | None, typer.Option(help="Write the report here, as one HTML page.")] = None,
) -> None:
    """Find what training would refuse (exit status 1), and what it would learn besides quality: length, noise, leaks.

    Rows: prompt with chosen and rejected, with completion and label (KTO), or with completion and rating.

    Example: `lmworks rows lint pairs.jsonl --held-out test.jsonl --suite gsm8k --data data --out lint.html`
    """
    from lmworks.align import row_lint
    from lmworks.artefact import check_new
    from lmworks.evaluate.set_lint import findings_section
    from lmworks.report import print_sections

    if out is not None:
        check_new(out)
    items = [item for one in held_out or [] for item in row_lint.held_out_items(one)]
    items += row_lint.suite_items(suite, data) if suite else []
    found = row_lint.lint_rows(path, items)
    sections = [row_lint.card(found), findings_section(found.findings, row_lint.ADVICE)]
    print_sections(new_console(), sections)
    write_page(out, f"Lint of {path.name}", "What training refuses, and what it would learn.", sections)
    if found.refused:
        typer.secho("training refuses this file", fg="red", err=True)
        raise typer.Exit(1)
