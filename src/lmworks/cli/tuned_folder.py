"""Parts of the verbs that make a folder with a tuned model: what is printed when it is there."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from lmworks.cli.options import WORKSPACES, new_console
from lmworks.cli.output import say

if TYPE_CHECKING:
    from lmworks.commands.outcome import Outcome


def print_made(command: str, made: "Outcome", *after: str) -> None:
    """Print the report of what a command made, and what a user may do with it."""
    from lmworks.report import print_sections

    console, workspace = new_console(), WORKSPACES / command / made.folder.name
    print_sections(console, made.sections)
    size = sum(path.stat().st_size for path in workspace.rglob("*") if path.is_file())
    kept = f"{workspace} ({size / 1e6:,.1f} MB) lets the same command show this again, and may be removed"
    say("\n".join((f"\nReport: {made.report}", kept, "\nWhat next:", *after)))


def ways_to_use(model: str, out: Path) -> tuple[str, ...]:
    """Commands that chat with the model of the folder `out`, which was made of `model`, and score it."""
    whole = (out / "config.json").is_file() or any(out.glob("*.gguf"))
    served = ["--model", str(out)] if whole else ["--model", model, "--adapter", f"{out.name}={out}"]
    return (
        f"  lmworks serve {shlex.join(served)}",
        f"      chat with it{'' if whole else ', and with the base'}, on a page and by an API",
        f"  lmworks eval run {shlex.quote(str(out))} --suite NAME --data FOLDER",
        "      score it; `lmworks eval list` names suites, and the files that FOLDER is to hold",
    )
