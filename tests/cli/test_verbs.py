"""The command line: help that is whole, what a Ctrl-C says, and nothing heavy imported early."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import typer.main

from command_line import lmworks, refused
from kit.tables import for_each
from lmworks import __version__
from lmworks.artefact import read_json, write_json
from lmworks.cli import main as verbs
from lmworks.cli.main import app
from lmworks.config import described
from lmworks.corpus.taggers.config import ClassifierConfig
from lmworks.ground.conformal_risk_control import CALIBRATION
from lmworks.serve.config import ServeConfig
from lmworks.stage import resolve
from lmworks.stages import STAGES
from lmworks.tokenizer.config import BpeConfig, UnigramConfig, WordPieceConfig
from lmworks.train.sweep.config import SweepConfig
from lmworks.workspace import artefact_of, read_current


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))
    else:
        yield path, command


VERBS = typer.main.get_command(app).commands
COMMANDS = dict(commands(typer.main.get_command(app)))
DESCRIBED = {
    ("serve",): (ServeConfig,),
    ("sweep",): (SweepConfig,),
    ("tokenizer", "train"): (BpeConfig, WordPieceConfig, UnigramConfig),
    ("data", "classifier"): (ClassifierConfig,),
}


SETTINGS = {path for path, command in COMMANDS.items() if re.search("^- `", command.epilog or "", re.MULTILINE)}


def letters(text: str) -> str:
    """What is to be found in any layout: without spaces, borders, marks of a list and the signs of Markdown."""
    return re.sub(r"[\s│╭╮╰╯─•`*]", "", text)


def words(text: str) -> list[str]:
    return [found for word in text.split() if (found := letters(word)) and found != "-"]


@for_each("path", COMMANDS)
def test_every_word_of_a_command_and_its_options_is_shown(path, monkeypatch):
    """Markdown takes `<unk>` for HTML and `[x]` for a link, and nothing would say so."""
    monkeypatch.setenv("COLUMNS", "200")
    whole = "--help-all" if path in SETTINGS else "--help"
    output, command = letters(lmworks(*path, whole).stdout), COMMANDS[path]
    options = [parameter for parameter in command.params if getattr(parameter, "help", None)]
    metavars = [parameter.metavar for parameter in command.params if isinstance(parameter.metavar, str)]
    for text in (command.help or "", *(parameter.help for parameter in options), *metavars):
        assert [word for word in words(text) if word not in output] == []
    for config in DESCRIBED.get(path, ()):
        for name, (default, sentence) in described(config).items():
            assert letters(f"{name}={default}: {sentence}") in output


def listed(*arguments: str) -> list[str]:
    return re.findall(r"^ *• ([\w.]+)=", lmworks(*arguments).stdout, re.MULTILINE)


@for_each("path", [*sorted(SETTINGS), ("compress",), ("compress", "--method", "distil")])
def test_help_lists_the_settings_used_most_and_ends_with_how_to_list_all(path):
    some, every = listed(*path, "--help"), listed(*path, "--help-all")
    assert (4 <= len(some) <= 16 and set(some) < set(every)) or (some == every and len(every) <= 12)
    assert "--help-all" in lmworks(*path, "--help").stdout.strip().splitlines()[-1] or some == every


def test_the_overview_lists_every_verb_and_each_has_an_example():
    overview = lmworks("--help").stdout
    assert all(verb in overview for verb in VERBS)
    examples = {path for path, command in COMMANDS.items() if "Example" in (command.help or "")}
    assert {(verb,) for verb in ("build", "ask", "lineage", "plan", "serve", "sweep", "bench")} <= examples
    assert lmworks("--version").stdout == f"{__version__}\n"


@for_each("use", STAGES)
def test_the_help_of_a_stage_lists_what_it_reads_and_every_setting_with_its_default(use, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    output, stage = lmworks("stage", use, "--help").stdout, STAGES[use]
    settings = described(resolve(stage.config))
    for key, (default, text) in settings.items():
        assert f"• {key}={default}: {text}".replace("`", "") in output, key
    assert bool(settings) == bool(fields(resolve(stage.config)))
    assert output.count("• --from") == len(stage.inputs)
    assert all(f"--model {role}=NAME" in output for role in stage.models)
    assert stage.purpose in output


def test_the_help_of_a_stage_groups_settings_by_table(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    lines = [line.strip() for line in lmworks("stage", "train.pretrain", "--help").stdout.splitlines()]
    group, groups = "", {}
    for line in lines:
        if line.endswith(".") and line.startswith(("train.", "objective.")) and " " not in line:
            group = line
        elif line.startswith("• ") and "=" in line.split(":")[0]:
            groups.setdefault(group, []).append(line[2:].split("=")[0])
    assert {"", "objective.", "train.", "train.parallel.", "train.checkpoint."} <= set(groups)
    assert "minutes" in groups[""] and "train.precision" in groups["train."]
    for group, keys in groups.items():
        assert all(key.startswith(group) and "." not in key.removeprefix(group) for key in keys), group


def test_a_hint_names_verbs_and_stages_that_exist():
    for word, hint in verbs._SUGGESTIONS.items():
        assert word not in VERBS
        named = [quoted.split() for quoted in re.findall(r"`(.*?)`", hint)]
        assert named, word
        for program, verb, *rest in named:
            assert program == "lmworks" and verb in VERBS, word
            assert verb != "stage" or rest[0] in STAGES, word


def stopped(monkeypatch, *arguments: str, message: str = "") -> str:
    """What is said after a Ctrl-C."""

    def stop() -> None:
        raise KeyboardInterrupt(message)

    monkeypatch.setattr(verbs, "app", stop)
    result = lmworks(*arguments)
    assert result.returncode == 130
    return result.stderr.strip()


def test_a_stop_says_that_a_verb_goes_on_where_it_does(monkeypatch):
    for verb in verbs._RESUMABLE:
        assert verb in VERBS
        assert stopped(monkeypatch, verb) == "lmworks: stopped; the same command resumes"
    message = stopped(monkeypatch, "build", message="at step 7, which is saved")
    assert message == "lmworks: stopped at step 7, which is saved; the same command resumes"
    for arguments in (("vectors", "train", "docs"), ("plan",), ("serve",), ("tokenizer", "train"), ()):
        assert stopped(monkeypatch, *arguments) == "lmworks: stopped"


CHEAP = [
    *(("log", "show"), ("log", "export", "x.json"), ("log", "prune", "3"), ("ask", "Who?")),
    *(("serve", "--model", "x", "--host", "0.0.0.0"), ("up", "--set", "serve.host=0.0.0.0")),  # refused without keys
]


def test_nothing_heavy_is_imported_before_it_is_needed(tmp_path):
    """A process of its own, as a user starts it: `import lmworks`, the verbs, and those that need no model."""
    heavy = {"torch", "sklearn", "matplotlib", "fastapi"}
    script = (
        "import sys, lmworks, lmworks.cli.main, lmworks.stages\n"
        f"early = {heavy | {'numpy', 'sqlite3', 'rich.table'}!r} & set(sys.modules)\n"
        "assert not early, sorted(early)\n"
        f"commands = [(*command, '--workspace', {str(tmp_path)!r}) for command in {CHEAP!r}]\n"
        "for command in [*commands, ('bench', '--weights', 'float8')]:\n"
        "    sys.argv = ['lmworks', *command]\n"
        "    try: lmworks.cli.main.main()\n"
        "    except SystemExit as end: assert end.code == 2\n"
        f"    assert not {heavy!r} & set(sys.modules), (command, sorted({heavy!r} & set(sys.modules)))\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_a_question_and_a_server_import_no_more_than_answers_need(workspace_copy):
    """Each of these takes a tenth of a second or more; an answer of quotes needs none, a server few."""
    heavy = {"torch._dynamo", "sympy", "scipy", "sklearn", "pyarrow", "fastapi", "matplotlib", "gguf", "llguidance"}
    script = (
        "import sys, lmworks.cli.main\n"
        f"sys.argv = ['lmworks', 'ask', 'How many days of leave?', '--workspace', {str(workspace_copy)!r}]\n"
        "try: lmworks.cli.main.main()\n"
        "except SystemExit as end: assert not end.code\n"
        f"assert not {heavy!r} & set(sys.modules), sorted({heavy!r} & set(sys.modules))\n"
        "import lmworks.serve.server\n"
        f"loaded = {heavy - {'fastapi', 'gguf', 'llguidance'}!r} & set(sys.modules)\n"
        "assert not loaded, sorted(loaded)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, timeout=120, capture_output=True, text=True)
    assert "leave.md" in done.stdout


def test_who_asks_is_told_where_nothing_was_calibrated_on_the_documents(workspace_copy):
    """Three pages give too few questions; a journey has the same with real models, on the page too."""
    question = ("ask", "How many days of leave?", "--json", "--workspace", workspace_copy)
    assert "set questions.gold" in lmworks(*question).stderr
    calibration = artefact_of(workspace_copy, read_current(workspace_copy), "ground.calibrate") / CALIBRATION
    decided = read_json(calibration)
    write_json(calibration, {**decided, "certainty": {**decided["certainty"], "borrowed": False}})
    assert lmworks(*question).stderr == ""


def test_a_stage_runs_alone_in_a_process_of_its_own(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "one.md").write_text("# One\n\nSome words about one thing.\n")
    (tmp_path / "notes" / "two.bin").write_bytes(b"\0\1")
    arguments = ("stage", "corpus.read", "--set", 'sources=["notes"]', "--out", "documents")
    command = [sys.executable, "-m", "lmworks", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert {path.name for path in (tmp_path / "documents").iterdir()} >= {"documents", "manifest.json", "report.html"}
    (shard,) = (tmp_path / "documents" / "documents").iterdir()
    assert "Some words" in shard.read_text()
    assert "two.bin" in (tmp_path / "documents" / "rejected.jsonl").read_text()
    shown = " ".join(result.stdout.split())
    assert "Report: documents/report.html" in shown and "no reader for .bin 1 notes/two.bin" in shown
    assert "never overwritten" in refused(*arguments, cwd=tmp_path)
