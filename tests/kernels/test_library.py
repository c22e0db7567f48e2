"""Which library runs, and what is said when none can."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from lmworks.kernels import fused_operations, library, reference
from lmworks.kernels.packing import pack_weight

MATRIX, X = pack_weight(torch.eye(32), "int8"), torch.randn(2, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def nothing_loaded() -> None:
    library.load.cache_clear()
    library.available.cache_clear()


def test_the_best_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(library.CHOICE, raising=False)
    names = library.available()
    assert names[-1] == "portable" and set(names) <= set(library.NAMES)
    loaded = library.load()
    assert loaded is not None and loaded.name == names[0]


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library.CHOICE, "portable")
    loaded = library.load()
    assert loaded is not None and loaded.name == "portable"
    monkeypatch.setenv(library.CHOICE, "reference")
    library.load.cache_clear()
    assert library.load() is None
    assert torch.equal(fused_operations.linear(X, MATRIX), reference.linear(X, MATRIX))


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="portable, reference"):
        library.load("sse9")


def test_without_libraries_it_is_said_once_and_the_reference_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(library.CHOICE, raising=False)
    monkeypatch.setattr(library, "_path", lambda _name: None)
    with pytest.warns(RuntimeWarning, match=r"C\+\+ compiler"):
        assert torch.equal(fused_operations.linear(X, MATRIX), reference.linear(X, MATRIX))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fused_operations.linear(X, MATRIX)


def test_a_library_of_other_sources_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.c_structures, "SIZES", (1,) * len(library.c_structures.SIZES))
    library._open.cache_clear()
    with pytest.raises(ImportError, match="install the package again"):
        library.load("portable")
    library._open.cache_clear()


def test_threads() -> None:
    loaded = library.load("portable")
    assert loaded is not None
    before = loaded.threads
    loaded.set_threads(3)
    assert loaded.threads == 3
    fused_operations.linear(X, MATRIX, loaded)
    loaded.set_threads(before)
    with pytest.raises(ValueError, match="at least one thread"):
        loaded.set_threads(0)


def test_a_forked_process_computes_with_threads_of_its_own(tmp_path: Path) -> None:
    """The threads of the parent do not exist in the child, which must neither wait for them, nor for a lock that one
    of them held, nor die at its end."""
    script = tmp_path / "fork.py"
    script.write_text(
        "import os, threading, torch\n"
        "from lmworks.kernels import fused_operations, library\n"
        "from lmworks.kernels.packing import pack_weight\n"
        "library.set_threads(2)\n"
        "matrix, x = pack_weight(torch.eye(64), 'int8'), torch.ones(9, 64)\n"
        "before = fused_operations.linear(x, matrix)\n"
        "large, many, done = pack_weight(torch.ones(1024, 1024), 'int8'), torch.ones(100, 1024), threading.Event()\n"
        "def work():\n"
        "    while not done.is_set():\n"
        "        fused_operations.linear(many, large)\n"
        "other = threading.Thread(target=work)\n"
        "for busy in (False, True):\n"
        "    if busy:\n"
        "        other.start()\n"
        "    for _ in range(2):\n"
        "        child = os.fork()\n"
        "        if not child:\n"
        "            os._exit(0 if torch.equal(fused_operations.linear(x, matrix), before) else 1)\n"
        "        assert os.waitpid(child, 0)[1] == 0 and torch.equal(fused_operations.linear(x, matrix), before)\n"
        "done.set()\n"
    )
    subprocess.run([sys.executable, str(script)], check=True, timeout=60)
