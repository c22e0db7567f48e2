"""Parts that several verbs share: options, the workspace that is meant, the console."""

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

WORKSPACES = Path(".lmworks")
CLEANED = WORKSPACES / "clean"  # that which the verbs of `data` mean where none is named
LAST = ".last"  # the file below it that names the workspace built last

RecipeArgument = Annotated[
    str,
    typer.Argument(
        help="A recipe file, or the name of one that comes with lmworks: assistant, tuned, documents, scratch."
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


def last_workspace() -> Path:
    """The workspace that was built last from the current folder; FileNotFoundError when there is none."""
    pointer = WORKSPACES / LAST
    if not pointer.is_file():
        raise FileNotFoundError("no system was built in this folder; run `lmworks up`, or name one with --workspace")
    return Path(pointer.read_text("utf-8").strip())


def remember(workspace: Path) -> None:
    """Make a workspace the one that is meant when none is named."""
    WORKSPACES.mkdir(exist_ok=True)
    (WORKSPACES / LAST).write_text(str(workspace.resolve()), "utf-8")


def read_margins(texts: list[str] | None) -> dict[str, float]:
    """Margins of a gate by metric; ConfigError for what is none."""
    from lmworks.config import ConfigError, parse_assignment

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


def new_console() -> "Console":
    from rich.console import Console

    return Console(emoji=False)  # a document that says :key: shall show :key:


def settings_help(lead: str, config: type, defaults: Any = None) -> str:
    """The settings that `--set` takes, in Markdown: a line for each field of a config, with its default (that of the
    class, or the value in the instance `defaults`); the config's own ones first, then those of each table in it under a
    heading."""
    from lmworks.config import described

    tables: dict[str, list[str]] = {"": []}
    for key, (default, text) in described(config, defaults).items():
        parents = key.split(".")[:-1]
        for depth in range(1, len(parents) + 1):  # an outer table's own fields stand before the tables in it
            tables.setdefault(".".join(parents[:depth]), [])
        tables[".".join(parents)].append(f"- `{key}={default}`: {_literal(text)}")
    own = tables.pop("")
    parts = [part for table, lines in tables.items() if lines for part in (f"**`{table}.`**", *lines)]
    return "\n\n".join([lead, "", *own, *parts])  # typer makes one line of each paragraph, so every item is one


def _literal(text: str) -> str:
    """Text in Markdown that shows every sign of it, but for code between backticks: `<unk>` is no element of HTML."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if number % 2 else re.sub(r"([\\<>*_\[\]&#])", r"\\\1", part) for number, part in enumerate(parts)
    )


def model_or_endpoint(role: str, source: str) -> tuple[list[str], list[str]]:
    """The options of `build.run_alone` that name a model: ROLE=NAME, or the setting `endpoint` for URL#NAME."""
    from lmworks.generate.remote_engine import is_address

    return ([], [f"endpoint={json.dumps(source)}"]) if is_address(source) else ([f"{role}={source}"], [])
