"""Help texts are shown whole: Markdown takes `<unk>` for HTML and `[x]` for a link, and nothing would say so."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from lmworks.cli.main import app
from lmworks.config import described
from lmworks.serve.config import ServeConfig
from lmworks.tokenizer.config import BpeConfig, UnigramConfig, WordPieceConfig
from lmworks.train.sweep.config import SweepConfig

ROOT = typer.main.get_command(app)


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))
    else:
        yield path, command


COMMANDS = dict(commands(ROOT))
DESCRIBED = {
    ("serve",): (ServeConfig,),
    ("sweep",): (SweepConfig,),
    ("tokenizer", "train"): (BpeConfig, WordPieceConfig, UnigramConfig),
}


def shown(path: tuple[str, ...]) -> str:
    return letters(CliRunner(env={"COLUMNS": "200"}).invoke(app, [*path, "--help"]).output)


def letters(text: str) -> str:
    """What is to be found in any layout: without spaces, borders, marks of a list and the signs of Markdown."""
    return re.sub(r"[\s│╭╮╰╯─•`*]", "", text)


def words(text: str) -> list[str]:
    return [found for word in text.split() if (found := letters(word)) and found != "-"]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_word_of_a_command_and_its_options_is_shown(path):
    output, command = shown(path), COMMANDS[path]
    options = [parameter for parameter in command.params if getattr(parameter, "help", None)]
    metavars = [parameter.metavar for parameter in command.params if isinstance(parameter.metavar, str)]
    for text in (command.help or "", *(parameter.help for parameter in options), *metavars):
        assert [word for word in words(text) if word not in output] == []


@pytest.mark.parametrize("path", DESCRIBED, ids=" ".join)
def test_every_sentence_about_a_setting_is_shown(path):
    output = shown(path)
    for config in DESCRIBED[path]:
        for name, (default, sentence) in described(config).items():
            assert letters(f"{name}={default}: {sentence}") in output


def test_a_verb_of_other_tools_is_told_what_it_is_here():
    found = CliRunner().invoke(app, ["train", "--minutes", "5"])
    assert found.exit_code == 2
    assert "lmworks stage train.pretrain" in " ".join(found.output.replace("│", " ").split())
