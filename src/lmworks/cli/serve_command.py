"""Verbs that serve: serve, keys."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lmworks.cli.options import WORKSPACES, SettingsOption, WorkspaceOption, resolve_workspace
from lmworks.cli.output import new_console, show_table
from lmworks.config import ConfigError, assigned, from_mapping
from lmworks.report import harmless, shown
from lmworks.serve.config import ServeConfig

KEYS = "keys.json"

keys_app = typer.Typer(no_args_is_help=True, help="API keys of a server: add, list, revoke.")
KeysOption = Annotated[Path, typer.Option("--keys", help="The file in which keys are kept, hashed.")]


def serve(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Serve these models alone, by name or path, without a built system."),
    ] = None,
    workspace: WorkspaceOption = None,
    models: Annotated[
        list[str] | None, typer.Option("--model", metavar="NAME|PATH", help="The same; repeatable.")
    ] = None,
    adapters: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter", metavar="NAME=FOLDER", help="An adapter's folder, served as a model of this name; repeatable."
        ),
    ] = None,
    settings: SettingsOption = None,
) -> None:
    """Serve the last build: pages and an OpenAI-compatible API.

    The model "assistant" answers from the documents with citations; the language and embedding models of the recipe
    are served by their names. Every interaction is logged in the workspace. Ctrl-C lets running requests finish.

    Examples: `lmworks serve --port 9000` · `lmworks serve smollm2-135m-instruct` ·
    `lmworks serve --weights int8 --adapter legal=adapters/legal`
    """
    from lmworks.serve.listener import check_address
    from lmworks.workspace import read_current

    given = {"adapters": _named_folders(adapters)} if adapters else {}
    models, served = [*(names or []), *(models or [])], None
    folder = None if models else resolve_workspace(workspace)
    config = serve_config({} if folder is None else read_current(folder).serve, given, settings)
    check_address(config)  # before torch is imported
    if folder is None:
        from lmworks.model.download import locate
        from lmworks.serve.served_models import served_names

        paths = {name: str(Path(name) if Path(name).exists() else locate(name)) for name in models}
        served = served_names(paths, {name: name for name in models})
        folder = resolve_workspace(workspace, WORKSPACES / next(iter(served)))
    serve_workspace(folder, config, served)


def _named_folders(adapters: list[str]) -> dict[str, str]:
    folders: dict[str, str] = {}
    for adapter in adapters:
        name, _, folder = adapter.partition("=")
        if not (name.strip() and folder):
            raise ConfigError(("adapters",), f"--adapter is NAME=FOLDER, got {adapter!r}")
        if name in folders:
            raise ConfigError(("adapters",), f"--adapter gives {name!r} twice: give one of them another name")
        folders[name] = folder
    return folders


def serve_config(
    recipe: Mapping[str, Any], given: Mapping[str, Any] | None = None, settings: list[str] | None = None
) -> ServeConfig:
    """The `[serve]` table of a recipe, with what the command line says instead. Raises ConfigError."""
    return from_mapping(ServeConfig, assigned(settings, {**recipe, **(given or {})}), ("serve",))


def serve_workspace(
    folder: Path, config: ServeConfig, models: dict[str, str] | None = None, building: Sequence[str] = ()
) -> None:
    """Serve until Ctrl-C; `building` as of `serve.server.run`. Says on stderr what is served, and where the log is."""
    from lmworks.corpus.sources.files import without_password
    from lmworks.serve.server import run
    from lmworks.workspace import log_config, log_location

    location = without_password(str(log_location(folder, log_config(folder))))
    typer.echo(harmless(f"Serves {folder}, and logs to {location}"), err=True)
    console = new_console()
    run(folder, config, models, lambda line: console.print(shown(line), highlight=False), building)


@keys_app.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="Whose key it is; the log and the limits know it by this name.")],
    file: KeysOption = WORKSPACES / KEYS,
) -> None:
    """Make a key and show it, once: only its hash is kept.

    Example: `lmworks keys add laptop` and then `lmworks serve --keys .lmworks/keys.json`
    """
    from lmworks.serve.api_keys import add

    typer.echo(add(file, name))
    typer.echo(f"Shown this once. Serve with it: lmworks serve --keys {file}", err=True)


@keys_app.command("list")
def list_keys(file: KeysOption = WORKSPACES / KEYS) -> None:
    """Names of the keys and when they were made."""
    from lmworks.serve.api_keys import read

    show_table(("name", "made", "ends with"), [(key.name, key.created, key.hint) for key in read(file)])


@keys_app.command("revoke")
def revoke_key(
    name: Annotated[str, typer.Argument(help="Whose key it is.")], file: KeysOption = WORKSPACES / KEYS
) -> None:
    """Take a key back; a running server refuses it from now on."""
    from lmworks.serve.api_keys import revoke

    revoke(file, name)
