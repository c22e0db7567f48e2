"""Which library runs, and what is said when none can."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from kit.tables import for_each
from lmworks.kernels import fused_operations, library, reference
from lmworks.kernels.library import Library
from lmworks.kernels.packing import pack_weight
from lmworks.kernels.weight_formats import FORMATS

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


# ---------------------------------------------------------------------------------------------------------------------
# Peaks


@for_each("count", [0, 1, 127, 128, 129, 65_535, 65_536, 65_537, 300_001])
def test_every_number_is_read_once(kernels: Library, count: int) -> None:
    numbers = torch.randint(
        -(2**16), 2**16, (count,), dtype=torch.int32, generator=torch.Generator().manual_seed(count)
    )
    assert library.read_numbers(numbers, kernels) == numbers.sum(dtype=torch.int64)


def test_the_largest_numbers_do_not_overflow(kernels: Library) -> None:
    numbers = torch.full((3 * 65_536,), 2**16, dtype=torch.int32)
    assert library.read_numbers(numbers, kernels) == 3 * 2**32


def test_what_cannot_be_read_is_refused(kernels: Library) -> None:
    for wrong in (
        torch.ones(8),
        torch.ones(8, 8, dtype=torch.int32).T,
        torch.ones(8, dtype=torch.int32, device="meta"),
    ):
        with pytest.raises(ValueError, match="int32 numbers in memory"):
            library.read_numbers(wrong, kernels)


def test_every_product_counts_one_and_threads_share_nothing_twice(kernels: Library) -> None:
    # The numbers come out of the sums of products of ones: exact, although some are added up as float32.
    counts = {}
    for threads in (1, 2, 3):
        kernels.set_threads(threads)
        counts[threads] = [library.multiply_ones(format_, kernels) for format_ in FORMATS]
    lanes = 64 * 20_000 * 16  # items, steps, lanes of a vector
    float32, bfloat16, int8, int4 = counts[1]
    assert (bfloat16, int8, int4) == (2 * float32, 4 * float32, 4 * float32)  # numbers in the four bytes of a lane
    assert float32 % (2 * lanes) == 0 and float32 // (2 * lanes) in (2, 4, 6)  # rows of a tile, by two vectors
    assert counts[2] == [2 * count for count in counts[1]] and counts[3] == [3 * count for count in counts[1]]


# ---------------------------------------------------------------------------------------------------------------------
# Placement of threads


_HERE = Path(__file__).parent

# The caller stays on one processor. The team's other thread is put there too before each step, and a process that is
# never done keeps the second processor as busy as the first, so that the scheduler has no reason to part them.
_SCRIPT = """
import os, subprocess, sys
from programs import batch, random_program, scattered_tables
from lmworks.kernels import library
from lmworks.kernels.fused_operations import run

def threads():
    return set(map(int, os.listdir("/proc/self/task")))

def processor(thread):
    return int(open(f"/proc/self/task/{thread}/stat").read().rsplit(")", 1)[1].split()[36])

first, second = both = sorted(os.sched_getaffinity(0))[:2]
kernels = library.load()
kernels.set_threads(2)
program = random_program(width=256, layers=4)
step = batch([(0, 0, [5] * 20)], scattered_tables(1, 20, 24))
before = threads()
run(program, step, kernels)
(other,) = threads() - before
os.sched_setaffinity(0, {first})
busy = subprocess.Popen([sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{second}}})\\nwhile True: pass"])
apart = 0
try:
    for _ in range(100):
        os.sched_setaffinity(other, {first})
        os.sched_setaffinity(other, both)
        run(program, step, kernels)
        apart += processor(other) == second
finally:
    busy.kill()
assert os.sched_getaffinity(other) == set(both) and os.sched_getaffinity(0) == {first}
print(apart)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux tells and takes where a thread runs")
def test_threads_that_meet_on_one_processor_part(tmp_path: Path) -> None:
    script = tmp_path / "part.py"
    script.write_text(_SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(_HERE)}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50
