"""Options that several verbs share, and the workspace that is meant."""

import json
import os
import time
from pathlib import Path
from typing import Annotated

import typer

from lmworks.commands.outcome import WORKSPACES
from lmworks.config import ConfigError, parse_assignment

CLEANED = WORKSPACES / "clean"  # that which the verbs of `data` mean where none is named
LAST = ".last"  # the file below it that names the workspace built last

RecipeArgument = Annotated[
    str,
    typer.Argument(
        help="A recipe file, or the name of one that comes with lmworks: assistant, tuned, documents, scratch, clean, "
        "encoder, encoder_decoder, mixture, cross_encoders."
    ),
]
DocsOption = Annotated[
    Path | None,
    typer.Option(
        help="Build over this folder of files instead, or the documents of a workspace, such as .lmworks/clean.",
        exists=True,
        file_okay=False,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME.key=value", help="Override a value of the recipe; may be repeated."),
]
SettingsOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="key=value", help="A setting; --help-all lists all. Repeatable.")
]
RowsOption = Annotated[
    list[str], typer.Option(help="Rows: .jsonl, .json, .parquet, .csv or .tsv files, folders or globs; repeatable.")
]
BaseArgument = Annotated[
    str, typer.Argument(help="A pulled model, a Hugging Face folder, a .gguf file, or a tuned one.")
]
TextsArgument = Annotated[
    list[str], typer.Argument(help="Folders, files or quoted globs; of .jsonl files the `text` of each row.")
]
TOKENIZER_FORMS = (
    "A pulled model, a Hugging Face folder, or a file: tokenizer.json, .gguf, SentencePiece's .model, or an encoding's "
    ".tiktoken."
)
WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        help="Where the system is kept. Default: .lmworks/NAME for a build or a model served alone, the last one built "
        "otherwise."
    ),
]


def resolve_workspace(named: Path | None, default: Path | None = None) -> Path:
    """The workspace of a command, said on stderr unless it is the one that is named; else the `default` of its
    recipe or model, else the one built last from the current folder.

    FileNotFoundError where there is none, ValueError where the last one is not in the current folder any more, as in a
    copy of a project.
    """
    folder = named or default or _last_workspace()
    if named is None:
        typer.echo(f"workspace: {folder}", err=True)
    return folder


def _last_workspace() -> Path:
    pointer = WORKSPACES / LAST
    if not pointer.is_file():
        raise FileNotFoundError("no system was built in this folder; run `lmworks up`, or name one with --workspace")
    folder = Path(pointer.read_text("utf-8").strip())
    if not _is_inside(folder):
        raise ValueError(
            f"{pointer} names {folder}, which is outside of this folder: name the workspace that is meant with "
            "--workspace, or build again, which makes it the last one"
        )
    return folder


def remember(workspace: Path) -> None:
    """Make a workspace below the current folder the one that is meant when none is named."""
    if not _is_inside(workspace):
        typer.echo(f"{workspace} lies outside of this folder: name it with --workspace in later commands", err=True)
    else:
        WORKSPACES.mkdir(exist_ok=True)
        (WORKSPACES / LAST).write_text(os.path.relpath(workspace.resolve()), "utf-8")


def _is_inside(workspace: Path) -> bool:
    return workspace.resolve().is_relative_to(Path.cwd().resolve())


def read_margins(texts: list[str] | None) -> dict[str, float]:
    """Margins of a gate by metric; ConfigError for what is none."""
    given: dict[str, float] = {}
    for text in texts or []:
        (name, *rest), value = parse_assignment(text)
        if rest or isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise ConfigError((), f"--margin is METRIC=NUMBER with a number above 0, got {text!r}")
        given[name] = float(value)
    return given


def moment(seconds: float) -> str:
    """A time in UTC, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))


def model_or_endpoint(role: str, source: str) -> tuple[list[str], list[str]]:
    """The options of `build.run_alone` that name a model: ROLE=NAME, or the setting `endpoint` for URL#NAME."""
    from lmworks.generate.remote_engine import is_address

    return ([], [f"endpoint={json.dumps(source)}"]) if is_address(source) else ([f"{role}={source}"], [])
