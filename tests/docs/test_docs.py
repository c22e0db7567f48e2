"""The documentation: its Python runs, its commands parse, its links lead somewhere, its words are the field's."""

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from lmworks.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
PAGES = [page for page in PAGES if page.parent.name != "reference"]  # made from the code
FENCE = re.compile(r"^( *)```(\w*)([^\n]*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
# Words of a private English, which the field does not use or uses for something else.
PRIVATE = re.compile(
    r"\b(told|tells?|telling|anew|goes on|going on|whoever|brakes?|dials?|crowds?|contenders?|bears? it out|"
    r"what its rows are|as it comes|of one's own|held against|beside)\b",
    re.IGNORECASE,
)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> Iterator[tuple[int, str, str]]:
    """(line, info string, text) of the fenced blocks in these languages."""
    text = page.read_text("utf-8")
    for match in FENCE.finditer(text):
        if match[2] in languages:
            indent = len(match[1])
            lines = [line[indent:] for line in match[4].split("\n")]
            yield text.count("\n", 0, match.start()) + 1, match[3].strip(), "\n".join(lines)


def programs(page: Path) -> list[tuple[int, str]]:
    """(line, code) of the Python programs of a page: a block, and those that continue it."""
    found: list[tuple[int, str]] = []
    for line, info, code in blocks(page, "python"):
        if "no-run" in info:
            continue
        if code.startswith("# continues"):
            found[-1] = (found[-1][0], f"{found[-1][1]}\n{code}")
        else:
            found.append((line, code))
    return found


def commands(page: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, arguments) of the calls of `lmworks` in the shell blocks of a page."""
    for line, _, text in blocks(page, "sh", "bash", "console"):
        for number, call in enumerate(text.replace("\\\n", " ").split("\n")):
            arguments: list[str] = []
            for token in [*shlex.split(re.sub(r"(^|\s)#.*", "", call.removeprefix("$ "))), ";"]:
                if token not in {"|", "&&", ";", "&", ">", "2>"}:
                    arguments.append(token)
                    continue
                if arguments[:1] == ["lmworks"]:
                    yield line + number + 1, arguments[1:]
                arguments = []


def test_python_compiles() -> None:
    for page in PAGES:
        for line, code in programs(page):
            compile("\n" * line + code, str(page), "exec")


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.parent.name != "tutorials" and programs(page)], ids=named
)
def test_python_runs(page: Path, tmp_path: Path) -> None:
    failures = []
    for line, code in programs(page):
        folder = tmp_path / str(line)
        folder.mkdir()
        run = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)
        if run.returncode:
            failures.append(f"{named(page)}:{line}: {run.stderr[-600:]}")
    assert not failures, "\n\n".join(failures)


def test_commands_parse() -> None:
    checked, wrong = 0, []
    for page in PAGES:
        for line, arguments in commands(page):
            checked += 1
            try:
                parse(arguments)
            except ValueError as error:
                wrong.append(f"{named(page)}:{line}: lmworks {shlex.join(arguments)}: {error}")
    assert not wrong, "\n".join(wrong)
    assert checked > 50


COMMAND: Any = typer.main.get_command(app)


def parse(arguments: list[str]) -> None:
    """Raise ValueError where a command or an option does not exist, or an argument is missing or too many."""
    command, context = COMMAND, None
    while hasattr(command, "commands") and arguments and not arguments[0].startswith("-"):
        context = typer.Context(command, info_name="lmworks", parent=context)
        try:
            _, command, arguments = command.resolve_command(context, list(arguments))
        except Exception as error:  # of the click that typer brings with it
            raise ValueError(str(error)) from error
    context = typer.Context(command, info_name=command.name, parent=context)
    try:
        options, rest, _ = command.make_parser(context).parse_args(list(arguments))
    except Exception as error:
        raise ValueError(str(error)) from error
    if {"help", "version"} & {name for name, value in options.items() if value}:
        return
    if rest:
        raise ValueError(f"unexpected argument {rest[0]}")
    for parameter in command.params:
        value = options.get(parameter.name or "")
        if parameter.required and not isinstance(value, (str, int, float, tuple, list)):
            raise ValueError(f"missing {parameter.name}")


def test_links_lead_somewhere() -> None:
    wrong = []
    for page in PAGES:
        text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text("utf-8")))
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            file = (page.parent / name).resolve() if name else page
            if "reference" in file.parts:  # pages that `make docs` makes
                continue
            if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
                wrong.append(f"{named(page)}: {target}")
    assert wrong == []


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    text = FENCE.sub("", page.read_text("utf-8"))
    names: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *#*$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        names.add(slug if slug not in names else f"{slug}-1")
    return names | set(re.findall(r'<a (?:id|name)="([^"]+)"', text))


def test_words_are_the_fields() -> None:
    wrong = []
    for page in PAGES:
        text = re.sub(r"## English.*?(?=\n## )", "", page.read_text("utf-8"), flags=re.DOTALL)  # what not to write
        text = re.sub(r"`[^`\n]*`|\]\([^)]*\)", "", FENCE.sub("", text))
        wrong += [f"{named(page)}: {word[0]}" for word in PRIVATE.finditer(text)]
    assert wrong == []


def test_words_of_help_and_errors_are_the_fields() -> None:
    hits = []
    for file in sorted((ROOT / "src/lmworks").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            match node:
                case ast.Raise(exc=ast.expr() as source):
                    pass
                case ast.Call(func=ast.Attribute(attr="Option" | "Argument" | "Typer" | "warn")) as source:
                    pass
                case ast.FunctionDef() if "cli" in file.parts:  # a command's docstring is its help
                    source = ast.Constant(ast.get_docstring(node) or "")
                case _:
                    continue
            texts = [part.value for part in ast.walk(source) if isinstance(part, ast.Constant)]
            texts = [re.sub(r"`[^`]*`", "", text) for text in texts if isinstance(text, str)]
            hits += [f"{file.name}:{node.lineno}: {word[0]}" for text in texts for word in PRIVATE.finditer(text)]
    assert not hits
