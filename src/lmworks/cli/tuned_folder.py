"""Parts of the verbs that make a folder with a tuned model: rows held out, the same command again, delivery."""

import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lmworks.cli.options import WORKSPACES, new_console

if TYPE_CHECKING:
    from lmworks.recipe import Recipe

_HELD_OUT, _MOST_HELD_OUT = 0.1, 200  # share, and rows


def held_out_share(hashes: Iterable[str]) -> float:
    """The share to hold out of rows by these SHA-256: a tenth, at most 200 of them; at least two, for an interval; 0 of
    a single row."""
    from lmworks.artefact import hash_fraction

    found = sorted(set(hashes))
    if len(found) < 2:
        return 0.0
    last = hash_fraction(found[1 if len(found) > 3 else 0])
    return max(min(_HELD_OUT, _MOST_HELD_OUT / len(found)), round(last + 1e-6, 6))


def make_folder(verb: str, recipe: "Recipe", out: Path) -> None:
    """Build the recipe, whose last stage makes what the new folder `out` is to hold, or go on with it; print and write
    its report. FileExistsError where the folder is of another model, of other rows or settings."""
    from lmworks.artefact import REPORT, check_new, publish, write_text
    from lmworks.build import build, sections
    from lmworks.report import print_sections, to_html
    from lmworks.stages import STAGES, resolve

    for spec in recipe.stages:
        if check := STAGES[spec.use].check:  # rows before the base, whose digest is asked for next
            resolve(check)(spec.config, recipe.base)
    workspace, console = WORKSPACES / verb / out.name, new_console()
    asked, digest = workspace / "asked", _digest(recipe)
    if not asked.is_file() or asked.read_text("utf-8") != digest:
        check_new(out)  # what is there is of another model, of other rows or settings
        workspace.mkdir(parents=True, exist_ok=True)
        asked.write_text(digest, "utf-8")
    *others, tuned = build(recipe, workspace, console)
    shown = sections([tuned, *others])
    if not out.exists():
        private = out.with_name(f".{out.name}.new")
        shutil.rmtree(private, ignore_errors=True)  # of a kill
        shutil.copytree(tuned.folder, private)
        write_text(private / REPORT, to_html(f"{out.name}: report", f"{recipe.description}.", shown))
        publish(private, out)
    print_sections(console, shown)
    size = sum(path.stat().st_size for path in workspace.rglob("*") if path.is_file())
    kept = f"{workspace} ({size / 1e6:,.1f} MB) lets the same command show this again, and may be removed"
    for line in (f"\nReport: {out / REPORT}", kept):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_next(*lines: str) -> None:
    """Print what a user may do with the folder."""
    for line in ("\nWhat next:", *lines):
        new_console().print(line, markup=False, highlight=False, soft_wrap=True)


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


def _digest(recipe: "Recipe") -> str:
    """SHA-256 of all that is asked for: settings, rows, base."""
    from lmworks.artefact import hash_json
    from lmworks.stages import STAGES, resolve

    sources = [(spec, STAGES[spec.use].sources) for spec in recipe.stages]
    return hash_json([[s.name, s.config, resolve(make)(s.config, recipe.base) if make else ""] for s, make in sources])
