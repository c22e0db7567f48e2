"""A stage's version is raised whenever its source changes: cached artefacts of the old source would be taken for new.

The source of a stage is every module of lmworks that its function can reach by imports, without comments, docstrings
and layout, and the data files beside them. After a change, raise the stage's `version` in `src/lmworks/stages.py` and
record the new digests:

    python tests/test_stage_versions.py
"""

import ast
import hashlib
import json
import sys
from functools import cache
from pathlib import Path

import pytest

import lmworks
from lmworks.stages import STAGES

ROOT = Path(lmworks.__file__).parent
RECORDED = Path(__file__).with_name("stage_versions.json")


def source_file(module: str) -> Path | None:
    """The file of a module of lmworks; None for a module of another package, or for a name that is no module."""
    parts = module.split(".")
    if parts[0] != "lmworks":
        return None
    path = ROOT.joinpath(*parts[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def tree_of(file: Path) -> ast.Module:
    """The syntax tree without docstrings, which change nothing that a stage makes."""
    tree = ast.parse(file.read_text("utf-8"))
    for node in ast.walk(tree):
        match getattr(node, "body", None):
            case [ast.Expr(value=ast.Constant(value=str()) as docstring), *_]:
                docstring.value = ""
    return tree


@cache
def imports_of(file: Path) -> frozenset[Path]:
    names: set[str] = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found for name in names if (found := source_file(name)))


def reachable(module: str) -> list[Path]:
    start = source_file(module)
    assert start is not None, module
    seen, waiting = {start}, [start]
    while waiting:
        new = imports_of(waiting.pop()) - seen
        seen |= new
        waiting += new
    return sorted(seen)


def digest_of(use: str) -> str:
    digest = hashlib.sha256()
    files = reachable(STAGES[use].run.split(":")[0])
    for file in files:
        digest.update(file.relative_to(ROOT).as_posix().encode() + ast.dump(tree_of(file)).encode())
    beside = ("*.json", "cpp/*")  # data, and the kernels' C++
    for data in sorted({found for file in files for kind in beside for found in file.parent.glob(kind)}):
        digest.update(data.relative_to(ROOT).as_posix().encode() + data.read_bytes())
    return digest.hexdigest()[:16]


def current() -> dict[str, dict[str, object]]:
    return {use: {"version": stage.version, "source": digest_of(use)} for use, stage in STAGES.items()}


@pytest.mark.parametrize("use", STAGES)
def test_a_changed_source_has_a_new_version(use):
    recorded, now = json.loads(RECORDED.read_text("utf-8"))[use], current()[use]
    if recorded["source"] != now["source"]:
        assert recorded["version"] != now["version"], f"the source of {use} changed: raise its version in stages.py"
        pytest.fail(f"{use} has a new version: record it with `python tests/test_stage_versions.py`")
    assert recorded["version"] == now["version"]


def test_the_digest_sees_code_and_no_comments(tmp_path):
    def digest(text: str) -> str:
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.py"
        file.write_text(text)
        return ast.dump(tree_of(file))

    code = 'def f(x):\n    """Doc."""\n    return x + 1\n'
    assert digest(code) == digest('def f(x):\n    """Other."""\n    # why\n    return x  +  1\n')
    assert digest(code) != digest(code.replace("1", "2"))


def test_a_stage_reaches_what_shapes_it():
    reached = {file.relative_to(ROOT).as_posix() for file in reachable("lmworks.retrieve.stage")}
    assert {"retrieve/chunk.py", "retrieve/index.py", "generate/text_embedding.py", "model/transformer.py"} <= reached
    assert "ground/grounded_answer.py" not in reached


if __name__ == "__main__":
    old = json.loads(RECORDED.read_text("utf-8")) if RECORDED.exists() else {}
    for name, now in current().items():
        was = old.get(name)
        if was and was["source"] != now["source"] and was["version"] == now["version"]:
            sys.exit(f"the source of {name} changed and its version did not: raise it in src/lmworks/stages.py first")
    RECORDED.write_text(json.dumps(current(), indent=1) + "\n", "utf-8")
