"""What a user sees who takes a verb that is not there, or stops one."""

import re
import sys

import pytest
import typer.main
from typer.testing import CliRunner

from lmworks import __version__
from lmworks.cli import main as verbs
from lmworks.cli.main import app, main
from lmworks.stages import STAGES

COMMANDS = typer.main.get_command(app).commands


def refused(*arguments: str) -> str:
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 2
    return " ".join(found.output.replace("│", " ").split())


@pytest.mark.parametrize("word", verbs._INSTEAD)
def test_a_hint_names_verbs_and_stages_that_exist(word):
    assert word not in COMMANDS
    named = [quoted.split() for quoted in re.findall(r"`(.*?)`", verbs._INSTEAD[word])]
    assert named
    for program, verb, *rest in named:
        assert program == "lmworks" and verb in COMMANDS
        assert verb != "stage" or rest[0] in STAGES


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("train", "there is no verb train: training is a stage of a recipe"),
        ("trian", "there is no verb trian: training is a stage of a recipe"),
        ("pretraining", "lmworks stage train.pretrain"),
        ("fine-tune", "lmworks stage train.finetune"),
        ("vectrs", "Did you mean 'vectors'?"),
        ("plna", "Did you mean 'plan'?"),
        ("xyzzy", "No such command 'xyzzy'."),
    ],
)
def test_a_verb_that_is_not_there_leads_to_the_nearest(word, told):
    assert told in refused(word, "--minutes", "5")


def test_the_version_is_told():
    found = CliRunner().invoke(app, ["--version"])
    assert (found.exit_code, found.output) == (0, f"{__version__}\n")


def stopped(monkeypatch, capsys, *arguments: str, told: str = "") -> str:
    """What is said after a Ctrl-C."""

    def stop() -> None:
        raise KeyboardInterrupt(told)

    monkeypatch.setattr(verbs, "app", stop)
    monkeypatch.setattr(sys, "argv", ["lmworks", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    return capsys.readouterr().err.strip()


@pytest.mark.parametrize("verb", verbs._KEEPING)
def test_a_stop_says_that_a_verb_goes_on_where_it_does(verb, monkeypatch, capsys):
    assert verb in COMMANDS
    assert stopped(monkeypatch, capsys, verb) == "lmworks: stopped; the same command goes on from here"
    told = stopped(monkeypatch, capsys, verb, told="at step 7, which is saved")
    assert told == "lmworks: stopped at step 7, which is saved; the same command goes on from here"


@pytest.mark.parametrize("arguments", [("vectors", "train", "docs"), ("plan",), ("serve",), ("tokenizer", "train"), ()])
def test_a_stop_promises_nothing_for_verbs_that_keep_nothing(arguments, monkeypatch, capsys):
    assert stopped(monkeypatch, capsys, *arguments) == "lmworks: stopped"
