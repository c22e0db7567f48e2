"""Versions: a build that waits, the gate, who went live and why, the way back, and a kill in between."""

import json
import os
import shutil
from pathlib import Path

import pytest

import toy_stages
from lmworks import build as builds
from lmworks import recipe as recipes
from lmworks import versions
from lmworks.build import build
from lmworks.evaluate.metric import Item, Metric, Response, each
from lmworks.evaluate.results import Result, task_score, write_results
from lmworks.model.download import locate
from lmworks.recipe import load
from lmworks.versions import Gate, GateError, compared, promote, promotions, read_version, rollback
from lmworks.workspace import read_current

PASSED = Gate(True, "not worse", {})
RIGHT = Metric("right", each(lambda item, response: float(response.text)))


@pytest.fixture
def workspace(monkeypatch, tmp_path) -> Path:
    """A toy system that is live, as it was built with `plus` 1."""
    for module in (recipes, builds):
        monkeypatch.setattr(module, "STAGES", toy_stages.STAGES)
    (tmp_path / "toy.toml").write_text(toy_stages.RECIPE)
    (tmp_path / "values.txt").write_text("1\n2\n3\n4\n")
    made(tmp_path / "workspace", 1, candidate=False)
    return tmp_path / "workspace"


def test_a_packaged_model_is_found_by_another_installation(workspace):
    """The record holds the path that the model had in the environment that built the system."""
    path = workspace / "current.json"
    record = json.loads(path.read_text())
    record["models"]["reader"], record["names"]["reader"] = "/elsewhere/minilm-reader", "minilm-reader"
    path.write_text(json.dumps(record))
    assert read_current(workspace).models["reader"] == str(locate("minilm-reader"))


def test_the_newest_version_is_the_one_built_last_wherever_its_files_lie(workspace):
    order = [read_current(workspace).version, *(made(workspace, offset) for offset in (2, 3))]
    copy = workspace.parent / "copy"
    shutil.copytree(workspace, copy)
    for age, version in enumerate(order):
        path = copy / "versions" / f"{version}.json"
        os.utime(path, (1000.0 - age, 1000.0 - age))
    assert [one.version for one in versions.versions(copy)] == order
    assert read_version(copy, "candidate").version == order[-1]
    made(copy, 2)  # built once more, from artefacts that are there
    assert read_version(copy, "candidate").version == order[1]


def made(workspace: Path, offset: int, *, candidate: bool = True) -> str:
    """Build with another setting; the version that it made."""
    build(load(workspace.parent / "toy.toml", [f"sum.offset={offset}"]), workspace, candidate=candidate)
    return versions.versions(workspace)[-1].version


def run(folder: Path, values: list[int]) -> Path:
    items = [Item(str(number), f"question {number}") for number in range(len(values))]
    responses = [Response(str(value)) for value in values]
    scores = RIGHT.measure(items, responses)
    rows = [Result("task", *one, {"right": value}) for *one, value in zip(items, responses, scores, strict=True)]
    folder.mkdir()
    write_results(folder, rows, {"task": {"right": task_score(RIGHT, items, scores, [])}})
    return folder


def test_a_candidate_waits_is_promoted_for_a_reason_and_rolled_back(workspace):
    first = read_current(workspace)
    second = made(workspace, 2)
    assert read_current(workspace) == first and second != first.version
    assert read_version(workspace, "candidate").version == second == read_version(workspace, second[:6]).version
    for gate, reason in ((PASSED, " "), (Gate(False, "task right WORSE", {}), "better")):
        with pytest.raises(GateError):
            promote(workspace, read_version(workspace, second), gate, reason)
    assert not promotions(workspace) and read_current(workspace) == first
    promote(workspace, read_version(workspace, second), PASSED, "better", who="ann", experiment="tone")
    assert read_current(workspace).version == second
    third = made(workspace, 3, candidate=False)  # no build goes live past the gate any more
    assert read_current(workspace).version == second
    promote(workspace, read_version(workspace, "candidate"), PASSED, "more")
    assert [rollback(workspace, "worse").version for _ in range(2)] == [second, first.version]
    assert read_current(workspace) == first
    with pytest.raises(GateError, match="no earlier version"):
        rollback(workspace)
    assert rollback(workspace, to=third).before == first.version and read_current(workspace).version == third
    kinds = [(one.kind, one.version, one.who if one.who == "ann" else "") for one in promotions(workspace)]
    assert kinds[:2] == [("promoted", second, "ann"), ("promoted", third, "")] and len(kinds) == 5
    with pytest.raises(FileNotFoundError, match="no version that waits"):
        read_version(workspace, "candidate")


def test_a_kill_between_the_line_and_the_move_is_made_good_by_the_same_call(workspace, monkeypatch):
    second = read_version(workspace, made(workspace, 2))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(versions, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        promote(workspace, second, PASSED, "better")
    assert read_current(workspace).version != second.version
    promote(workspace, second, PASSED, "better")
    assert read_current(workspace).version == second.version and len(promotions(workspace)) == 1


def test_a_version_keeps_its_name_when_the_workspace_moves_and_is_refused_when_it_was_changed(workspace):
    second = read_version(workspace, made(workspace, 2))
    moved = workspace.rename(workspace.with_name("moved"))
    promote(moved, second, PASSED, "better")
    first = read_version(moved, promotions(moved)[0].before)
    manifest = moved / first.stages["sum"] / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"content_hash": "0" * 64}))
    with pytest.raises(GateError, match="not what was built"):
        rollback(moved)
    shutil.rmtree(manifest.parent)
    with pytest.raises((GateError, FileNotFoundError)):
        rollback(moved)
    assert read_current(moved).version == second.version


@pytest.mark.parametrize(
    ("new", "passed"), [([1] * 300, True), ([1] * 240 + [0] * 60, False), ([1, 0] * 150, False)], ids=str
)
def test_the_gate_is_non_inferiority_over_the_same_items(workspace, tmp_path, new, passed):
    old = run(tmp_path / "old", [1] * 290 + [0] * 10)
    gate = compared(workspace, read_current(workspace), {"right": 0.05}, [run(tmp_path / "new", new), old])
    assert gate.passed is passed and gate.runs == (str(tmp_path / "new"), str(tmp_path / "old"))


def test_few_items_pass_no_gate(workspace, tmp_path):
    runs = [run(tmp_path / "new", [1] * 8), run(tmp_path / "old", [1] * 8)]
    gate = compared(workspace, read_current(workspace), {"right": 0.05}, runs)
    assert not gate.passed and "CANNOT TELL" in gate.text
