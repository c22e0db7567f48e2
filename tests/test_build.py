"""Builds: cached, resumable, locked, traceable, and equal however often they were killed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

import toy_stages
from lmworks import build as builds
from lmworks import recipe as recipes
from lmworks.artefact import DamagedError, LockedError, lock, read_manifest, verify, write_manifest
from lmworks.build import build, run_alone
from lmworks.config import ConfigError
from lmworks.recipe import load
from lmworks.stages import _RENAMED
from lmworks.workspace import artefact_of, read_current
from slow_cases import slow

SCRIPT = """
import sys
from pathlib import Path
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
import toy_stages
from lmworks import build, recipe
build.STAGES = recipe.STAGES = toy_stages.STAGES
build.build(recipe.load(Path(sys.argv[2])), Path(sys.argv[3]))
"""


@pytest.fixture
def toy(monkeypatch, tmp_path):
    for module in (recipes, builds):
        monkeypatch.setattr(module, "STAGES", toy_stages.STAGES)
    (tmp_path / "toy.toml").write_text(toy_stages.RECIPE)
    (tmp_path / "values.txt").write_text("1\n2\n3\n4\n")
    return tmp_path


def run(folder: Path, *overrides: str, console: Console | None = None) -> dict[str, builds.StageOutcome]:
    outcomes = build(load(folder / "toy.toml", overrides), folder / "workspace", console)
    return {outcome.name: outcome for outcome in outcomes}


def ran(folder: Path) -> list[str]:
    return (folder / "ran").read_text().split() if (folder / "ran").exists() else []


def test_the_second_build_is_cached_and_the_same(toy):
    first, second = run(toy), run(toy)
    assert [outcome.cached for outcome in first.values()] == [False, False]
    assert [outcome.cached for outcome in second.values()] == [True, True]
    assert (second["sum"].folder / "total.txt").read_text() == "10"
    assert ran(toy) == ["1", "2", "3", "4"]


def test_a_changed_value_makes_only_what_depends_on_it(toy):
    run(toy)
    changed = run(toy, "sum.offset=5")
    assert [outcome.cached for outcome in changed.values()] == [True, False]
    assert (changed["sum"].folder / "total.txt").read_text() == "15"
    assert all(outcome.cached for outcome in run(toy).values())  # the former artefacts are still there


def test_a_changed_source_file_is_noticed(toy):
    run(toy)
    (toy / "values.txt").write_text("1\n2\n3\n5\n")
    assert [outcome.cached for outcome in run(toy).values()] == [False, False]


def test_a_cached_build_of_documents_reads_none_of_their_files(tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.md").write_text("# Title\n\nSome words.\n")
    (tmp_path / "read.toml").write_text('name = "read"\n[stages.read]\nuse = "corpus.read"\nsources = ["docs"]\n')
    clock, hashed, real = time.time_ns, [], hashlib.file_digest
    monkeypatch.setattr(time, "time_ns", lambda: clock() + 10**10)
    monkeypatch.setattr(
        hashlib, "file_digest", lambda stream, kind: (hashed.append(stream.name), real(stream, kind))[1]
    )
    for cached in (False, True):
        hashed.clear()
        [outcome] = build(load(tmp_path / "read.toml"), tmp_path / "workspace")
        assert outcome.cached == cached and (str(tmp_path / "docs/a.md") in hashed) != cached


def test_an_input_made_anew_with_equal_content_invalidates_nothing(toy):
    before = run(toy)
    (toy / "values.txt").write_text("1 2 3 4")  # another key for the first stage, the same content
    after = run(toy)
    assert [outcome.cached for outcome in after.values()] == [False, True]
    assert after["values"].manifest.key != before["values"].manifest.key
    assert after["values"].manifest.content_hash == before["values"].manifest.content_hash


@pytest.mark.parametrize("position", [1, *slow(0, 2, 3)])
def test_killed_at_any_point_the_next_build_goes_on_and_makes_the_same(toy, position):
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(toy / "toy.toml"), str(toy / "workspace")]
    killed = subprocess.run(command, env=os.environ | {"KILL_AT": str(position)}, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert not (toy / "workspace" / "current.json").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert ran(toy) == ["1", "2", "3", "4"]  # nothing was lost, nothing was done twice
    outcomes = run(toy)
    assert all(outcome.cached for outcome in outcomes.values())
    fresh = build(load(toy / "toy.toml"), toy / "other workspace")
    assert [o.manifest.content_hash for o in fresh] == [o.manifest.content_hash for o in outcomes.values()]
    assert list((toy / "workspace" / "work").iterdir()) == []


def test_two_builds_of_one_workspace_are_refused(toy):
    with lock(toy / "workspace" / "build.lock"), pytest.raises(LockedError, match=str(os.getpid())):
        run(toy)


def test_current_names_the_artefacts_and_the_manifests_their_lineage(toy):
    outcomes = run(toy)
    current = read_current(toy / "workspace")
    assert current.recipe == "toy"
    assert {name: toy / "workspace" / path for name, path in current.stages.items()} == {
        name: outcome.folder for name, outcome in outcomes.items()
    }
    manifest = read_manifest(outcomes["sum"].folder)
    assert manifest.parents == {"values": outcomes["values"].manifest.content_hash}
    assert manifest.config == {"offset": 0}
    assert "clock.txt" not in manifest.files
    assert "python" in manifest.libraries


def test_nothing_built_says_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="lmworks build"):
        read_current(tmp_path)


def test_the_report_is_one_file_that_fetches_nothing_and_escapes_what_it_shows(toy):
    run(toy)
    page = (toy / "workspace" / "report.html").read_text("utf-8")
    assert "total &lt;b&gt;" in page
    assert "Timings and versions" in page and "its last attempt" in page
    for outside in ("src=", "http://", "https://", "<script", "@import", "url("):
        assert outside not in page


def test_what_no_answer_needs_is_left_for_the_next_build_unless_it_is_there(toy, monkeypatch):
    monkeypatch.setattr(recipes, "ANSWERER", "toy.numbers")
    workspace, recipe = toy / "workspace", load(toy / "toy.toml")
    assert [outcome.name for outcome in build(recipe, workspace, answers_first=True)] == ["values"]
    assert read_current(workspace).unfinished == ("sum",)
    assert "Not made yet: sum." in (workspace / "report.html").read_text("utf-8")
    with pytest.raises(FileNotFoundError, match="lmworks build"):
        artefact_of(workspace, read_current(workspace), "toy.total")
    assert [outcome.cached for outcome in build(recipe, workspace)] == [True, False]
    assert [outcome.name for outcome in build(recipe, workspace, answers_first=True)] == ["values", "sum"]
    assert read_current(workspace).unfinished == ()


def test_a_stage_runs_alone(toy, monkeypatch):
    monkeypatch.chdir(toy)
    made = run_alone("toy.numbers", toy / "values", [], [], ["file=values.txt", "factor=2"])
    summed = run_alone("toy.total", toy / "sum", [made.folder], [], [])
    assert (toy / "sum" / "total.txt").read_text() == "20"
    assert summed.manifest.parents == {"values": made.manifest.content_hash}
    with pytest.raises(FileExistsError, match="never overwritten: choose a new name, or delete it first"):
        run_alone("toy.total", toy / "sum", [made.folder], [], [])
    assert json.loads((toy / "sum" / "manifest.json").read_text())["metrics"] == {"total": 20}


def test_every_artefact_has_a_report_that_is_no_part_of_what_it_holds(toy, monkeypatch):
    monkeypatch.chdir(toy)
    alone = run_alone("toy.numbers", toy / "numbers", [], [], ["file=values.txt"])
    for outcome in (alone, run(toy)["values"], run_alone("toy.total", toy / "sum", [alone.folder], [], [])):
        page = outcome.folder / "report.html"
        assert f"<h1>{outcome.manifest.stage}: report</h1>" in page.read_text("utf-8")
        assert "report.html" not in {*outcome.manifest.files, *outcome.manifest.unhashed}
        page.write_text("drawn again, with other times")
        verify(outcome.folder, outcome.manifest)
    assert "total &lt;b&gt;" in (run(toy)["sum"].folder / "report.html").read_text("utf-8")


def test_a_stage_refuses_an_input_that_was_changed_and_leaves_nothing(toy, monkeypatch):
    monkeypatch.chdir(toy)
    made = run_alone("toy.numbers", toy / "values", [], [], ["file=values.txt"])
    (made.folder / "numbers.txt").write_text("1\n2\n3\n5\n")
    before = sorted(toy.iterdir())
    with pytest.raises(DamagedError, match=r"numbers\.txt is not what it was"):
        run_alone("toy.total", toy / "sum", [made.folder], [], [])
    assert sorted(toy.iterdir()) == before


def test_an_input_in_the_format_of_another_version_is_named_and_left(toy, monkeypatch):
    monkeypatch.chdir(toy)
    (toy / "old").mkdir()
    (toy / "old/numbers.json").write_text("[1, 2]")
    write_manifest(toy / "old", "older.numbers", 0, {}, {})
    monkeypatch.setitem(_RENAMED, "older.numbers", "toy.numbers")
    monkeypatch.setattr(toy_stages, "total", lambda config, context: json.loads("[1, 2]")["numbers"])
    for version in (0, 1):  # of one version it is a defect of the stage, and no fault of the artefact
        monkeypatch.setitem(
            toy_stages.STAGES, "toy.numbers", replace(toy_stages.STAGES["toy.numbers"], version=version)
        )
        with pytest.raises(
            ValueError if version else TypeError, match="old is of version 0 of toy.numbers" if version else "indices"
        ):
            run_alone("toy.total", toy / "sum", [toy / "old"], [], [])
    assert not (toy / "sum").exists()


def test_a_build_refuses_a_cached_input_that_was_changed(toy):
    made = run(toy)["values"].folder
    (made / "numbers.txt").write_text("1\n2\n3\n5\n")
    assert all(outcome.cached for outcome in run(toy).values())  # nothing has to be made from it
    with pytest.raises(DamagedError, match=r"numbers\.txt"):
        run(toy, "sum.offset=5")


def test_what_is_not_there_is_told_before_the_first_stage_runs(toy, monkeypatch):
    stages = toy_stages.STAGES | {"toy.total": replace(toy_stages.STAGES["toy.total"], check="toy_stages:check")}
    for module in (recipes, builds):
        monkeypatch.setattr(module, "STAGES", stages)
    with pytest.raises(LookupError, match="nothing is 99 away"):
        run(toy, "sum.offset=99")
    assert ran(toy) == []


def test_an_input_that_no_stage_made_is_told_what_it_is(toy, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere to read from"):
        run_alone("toy.total", toy / "sum", [toy / "nowhere"], [], [])
    (toy / "some").mkdir()
    with pytest.raises(FileNotFoundError, match=r"some is no artefact of a stage \(it has no manifest\.json\)"):
        run_alone("toy.total", toy / "sum", [toy / "some"], [], [])
    (toy / "some" / "tokenizer.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"a tokenizer that no stage made: name it with --set tokenizer=.*some"):
        run_alone("toy.total", toy / "sum", [toy / "some"], [], [])


@pytest.fixture
def stops(toy, monkeypatch):
    """In place of the stage `toy.numbers`, one that is stopped after two lines of four. `factor` is 10."""
    monkeypatch.chdir(toy)

    def stop(config, context):
        (context.work / "done").write_text("10\n20\n")
        raise KeyboardInterrupt

    @contextmanager
    def stopping():
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(toy_stages, "numbers", stop)
            yield

    return stopping


LEFT = "interrupted runs with other settings or inputs left 6 bytes in {}; delete it to give them up"


def test_a_stage_alone_goes_on_only_from_its_own_settings(toy, stops):
    """What a killed run had finished belongs to its settings: with others, all is made anew, and that is left."""
    with stops():
        run_alone("toy.numbers", toy / "out", [], [], ["file=values.txt", "factor=10"])
    stream = StringIO()
    run_alone("toy.numbers", toy / "out", [], [], ["file=values.txt", "factor=3"], Console(file=stream))
    assert (toy / "out" / "numbers.txt").read_text().split() == ["3", "6", "9", "12"]
    assert ran(toy) == ["1", "2", "3", "4"]
    assert LEFT.format(toy / ".out.work") in stream.getvalue()
    (toy / "out").rename(toy / "other")
    stream = StringIO()
    run_alone("toy.numbers", toy / "out", [], [], ["file=values.txt", "factor=10"], Console(file=stream))
    assert ran(toy)[4:] == ["3", "4"] and (toy / "out" / "numbers.txt").read_text().split() == ["10", "20", "30", "40"]
    assert not (toy / ".out.work").exists() and "interrupted" not in stream.getvalue()


def test_a_build_leaves_what_other_settings_made_of_a_stage(toy, stops):
    with stops():
        run(toy, "values.factor=10")
    half = toy / "workspace" / "stages" / "values" / ".a_killed_run.tmp"
    half.mkdir(parents=True)
    (toy / "workspace" / "work" / "values" / "of_a_run_that_failed_at_once").mkdir()
    stream = StringIO()
    run(toy, "values.factor=3", console=Console(file=stream))
    assert ran(toy) == ["1", "2", "3", "4"] and not half.exists()
    assert f"values: {LEFT.format(toy / 'workspace' / 'work' / 'values')}" in stream.getvalue()
    (toy / "workspace" / "work" / "values" / "of_a_run_that_failed_at_once").mkdir()
    stream = StringIO()
    run(toy, "values.factor=10", console=Console(file=stream))
    assert ran(toy)[4:] == ["3", "4"] and "interrupted" not in stream.getvalue()
    assert list((toy / "workspace" / "work").iterdir()) == []


def test_what_a_killed_deletion_left_of_a_finished_stage_goes(toy):
    """Be it all of a run that was killed when its artefact was there, or half of one: nobody goes on from that."""
    folder = run(toy)["values"].folder
    work = toy / "workspace" / "work" / "values"
    for name in (folder.name, ".of_another.dropped"):
        (work / name).mkdir(parents=True)
        (work / name / "done").write_text("1\n")
    assert run(toy)["values"].cached
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("factor", [1, 2])
def test_a_second_run_of_one_folder_is_refused_and_harms_nothing(toy, monkeypatch, factor):
    monkeypatch.chdir(toy)
    numbers = toy_stages.numbers

    def twice(config, context):
        monkeypatch.setattr(toy_stages, "numbers", numbers)
        (context.output / "early").write_text("written before the second run began")
        with pytest.raises(LockedError, match=rf"\.out\.work is in use by process {os.getpid()}"):
            run_alone("toy.numbers", toy / "out", [], [], ["file=values.txt", f"factor={factor}"])
        return numbers(config, context)

    monkeypatch.setattr(toy_stages, "numbers", twice)
    run_alone("toy.numbers", toy / "out", [], [], ["file=values.txt", "factor=1"])
    assert (toy / "out" / "numbers.txt").read_text().split() == ["1", "2", "3", "4"]
    assert (toy / "out" / "early").exists() and ran(toy) == ["1", "2", "3", "4"]
    assert not (toy / ".out.work").exists()


def test_the_roles_of_models_are_those_of_the_stage(toy, monkeypatch):
    stages = toy_stages.STAGES | {"toy.total": replace(toy_stages.STAGES["toy.total"], models=("embedder",))}
    for module in (recipes, builds):
        monkeypatch.setattr(module, "STAGES", stages)
    with pytest.raises(
        ConfigError, match=r'--model judge=x: toy.total has no model in the role "judge", .*: embedder$'
    ):
        run_alone("toy.total", toy / "sum", [], ["judge=x"], [])
    with pytest.raises(ConfigError, match="name one with --model embedder=NAME"):
        run_alone("toy.total", toy / "sum", [], [], [])
    with pytest.raises(ConfigError, match="it takes none; name it with --set factor=x"):
        run_alone("toy.numbers", toy / "sum", [], ["factor=x"], ["file=values.txt"])


def test_progress_is_plain_lines_where_there_is_no_terminal_and_counts_cached_stages(toy):
    run(toy)
    stream = StringIO()
    run(toy, "sum.offset=5", console=Console(file=stream, force_terminal=False))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "stage 1 of 2 · values  cached" and lines[1].startswith("stage 2 of 2 · sum     done in")
    assert "\x1b" not in stream.getvalue()


class TestModelsThatAStageMakes:
    @pytest.fixture
    def system(self, toy, monkeypatch):
        """`first` uses a model that `values` makes, and reads from another stage."""
        stages = toy_stages.STAGES | {"toy.total": replace(toy_stages.STAGES["toy.total"], models=("assistant",))}
        for module in (recipes, builds):
            monkeypatch.setattr(module, "STAGES", stages)
        text = toy_stages.RECIPE.replace('from = ["values"]', 'from = ["others"]')
        others = '\n[stages.others]\nuse = "toy.numbers"\nfile = "values.txt"\nfactor = 10\n'
        (toy / "toy.toml").write_text(text + others + '\n[models]\nassistant = "stages.values"\n')
        return toy

    def test_it_is_made_first_and_the_system_knows_it(self, system):
        outcomes = run(system)
        assert list(outcomes).index("values") < list(outcomes).index("sum")
        current = read_current(system / "workspace")
        assert current.models == {"assistant": str(outcomes["values"].folder.resolve())}
        assert current.names == {"assistant": "values"}
        assert outcomes["sum"].manifest.models == {"assistant": outcomes["values"].manifest.content_hash}

    def test_another_model_makes_its_users_anew(self, system):
        run(system)
        again = run(system)
        assert all(outcome.cached for outcome in again.values())
        changed = run(system, "values.factor=2")
        assert {name: outcome.cached for name, outcome in changed.items()} == {
            "values": False,
            "others": True,
            "sum": False,
        }

    def test_a_role_that_a_stage_uses_where_it_is_named(self, system, monkeypatch):
        total = replace(toy_stages.STAGES["toy.total"], optional=("reader", "reranker"))
        for module in (recipes, builds):
            monkeypatch.setattr(module, "STAGES", toy_stages.STAGES | {"toy.total": total})
        named = "models.reader=stages.values"
        without, made = run(system), run(system, named)
        assert without["sum"].manifest.models == {} and not made["sum"].cached
        assert made["sum"].manifest.models == {"reader": made["values"].manifest.content_hash}
        assert run(system, named)["sum"].cached and not run(system, named, "values.factor=2")["sum"].cached

    def test_a_maker_that_is_not_there_is_named(self, system):
        with pytest.raises(
            recipes.RecipeError, match=r'models\.assistant: unknown stage "value"; did you mean "values"'
        ):
            run(system, "models.assistant=stages.value")
