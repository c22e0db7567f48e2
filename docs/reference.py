"""Write the reference pages of the site: one for each package with its public names, and one for the command line.

    python docs/reference.py [FOLDER]

`make docs` runs it before the site is built. The pages are made from the code, so the repository does not hold them.
"""

import ast
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import lmworks

SOURCE = Path(lmworks.__file__).parent
FOLDER = Path(__file__).parent / "reference"


def exports(init: Path) -> list[str]:
    """The full names of what a package's `__init__.py` exports: its imports for type checkers (`lmworks.lazy`)."""
    blocks = [node for node in ast.parse(init.read_text("utf-8")).body if isinstance(node, ast.If)]
    imports = [node for node in blocks[0].body if isinstance(node, ast.ImportFrom)] if blocks else []
    return sorted((f"{node.module}.{alias.name}" for node in imports for alias in node.names), key=_last)


def package_page(package: str, names: Sequence[str]) -> str:
    """The page of a package in Markdown, with a directive of mkdocstrings for each public name."""
    summary = (import_module(package).__doc__ or "").strip().split("\n")[0]
    return "\n\n".join([f"# {package}", summary, *(f"::: {name}" for name in names), ""])


def _last(name: str) -> str:
    return name.rpartition(".")[2].lower()


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for init in (SOURCE / "__init__.py", *sorted(SOURCE.glob("*/__init__.py"))):
        package = ".".join(init.parent.relative_to(SOURCE.parent).parts)
        if names := exports(init):
            (folder / f"{package.replace('.', '-')}.md").write_text(package_page(package, names), "utf-8")
    command = [sys.executable, "-m", "typer", "lmworks.cli.main", "utils", "docs", "--name", "lmworks", "--title"]
    subprocess.run(
        [*command, "Command line", "--output", str(folder / "cli.md")], check=True, stdout=subprocess.DEVNULL
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
