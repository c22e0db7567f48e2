"""The package as a stranger installs it: from the wheel and the source distribution, with and without a compiler."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.weights]
ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=inherited | environment, capture_output=True, text=True,
        timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.parametrize("compiler", [True, False], ids=["compiler", "no compiler"])
def test_an_empty_environment_answers_from_two_files(tmp_path: Path, compiler: bool) -> None:
    without = {} if compiler else {"CC": "/nonexistent/cc", "CXX": "/nonexistent/c++"}
    run(BIN / "uv", "build", "--out-dir", tmp_path / "dist", ROOT, cwd=tmp_path, **without)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert list((tmp_path / "dist").glob("*.tar.gz"))
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith(".so") for name in names) == compiler
    assert {"lmworks/py.typed", "lmworks/docs/grounding.md", "lmworks/docs/tutorials/answers.md"} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "docs/", "lmworks/docs/screens"))]

    run(BIN / "uv", "venv", "--python", sys.executable, "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    run(BIN / "uv", "pip", "install", "--python", python, f"{wheel}[all]", cwd=tmp_path)
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "parking.md").write_text("# Parking\n\nParking behind the town hall costs 3 euros an hour.\n")
    (notes / "library.md").write_text("# Library\n\nThe library opens at nine and closes at eight in the evening.\n")
    command = tmp_path / "env" / "bin" / "lmworks"
    run(command, "build", "--docs", "notes", cwd=tmp_path)
    answer = run(command, "ask", "How much does parking cost?", cwd=tmp_path)
    assert "3 euros" in answer


def test_importing_loads_next_to_nothing() -> None:
    loaded = "import sys; import lmworks; print(*sorted(sys.modules))"
    modules = set(run(sys.executable, "-c", loaded, cwd=ROOT).split())
    assert not {"torch", "numpy", "typer", "rich", "importlib.metadata"} & modules
