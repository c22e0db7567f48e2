"""Programs of a model run, or are stopped, without a trace; pass@k is the estimator of its paper."""

import gzip
import json
import time
from itertools import combinations
from pathlib import Path

import pytest

from kit.tables import for_each
from lmworks.evaluate.code_sandbox import run_program, run_programs
from lmworks.evaluate.metric import Item, Response
from lmworks.evaluate.registry import metric
from lmworks.evaluate.task import Task, built_in, examples
from lmworks.evaluate.verifier_metrics import unbiased_pass_at_k
from lmworks.records import Unscored
from published_data import DATA, needs_data

CASES = [  # program, what is said of it; nothing where it runs to its end
    ("x = sum(range(10))", ""),
    ("open('own', 'w').write('x')\nassert open('own').read() == 'x'", ""),
    ("print('x' * 10**6)", ""),
    ("while True: pass", "took more than 1 s"),
    ("import time\ntime.sleep(60)", "took more than 1 s"),
    ("try:\n  while True: pass\nexcept BaseException: pass", "took more than 1 s"),
    ("x = [0] * 10**9", "MemoryError"),
    ("import os\nos.fork()", "PermissionError: os.fork"),
    ("import subprocess\nsubprocess.run(['true'])", "PermissionError: subprocess.Popen"),
    ("import multiprocessing\nmultiprocessing.Process(target=print).start()", "PermissionError: os.fork"),
    ("import socket\nsocket.socket()", "PermissionError: socket"),
    ("import ctypes", "PermissionError: ctypes"),
    ("import sys\nsys.exit(0)", "SystemExit: 0"),
    ("raise SystemExit", "SystemExit"),
    ("import os\nos._exit(0)", "ended early, with code 0"),
    ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ("open('big', 'w').write('x' * 10**8)", "OSError"),
    ("input()", "EOFError"),
    ("def", "SyntaxError"),
    ("assert False, 'no'", "AssertionError: no"),
    ("print('0' * 16, '')", ""),
]


@for_each(("program", "problem"), CASES)
def test_a_program_runs_to_its_end_or_is_stopped(program, problem):
    began = time.monotonic()
    found = run_program(program, seconds=1 if problem.startswith("took") else 30)
    assert found.startswith(problem) and bool(found) == bool(problem)
    assert time.monotonic() - began < 30


def test_nothing_outside_its_folder_is_written(tmp_path):
    kept = tmp_path / "kept"
    kept.write_text("kept")
    ways = ["open({!r}, 'w')", "open({!r}, 'a')", "import os\nos.remove({!r})", "import os\nos.open({!r}, os.O_TRUNC)"]
    ways += ["import shutil\nshutil.rmtree({!r})", "from pathlib import Path\nPath({!r}).write_text('x')"]
    ways += ["import os\nos.symlink({!r}, 'inside')", "import os\nos.rename({!r}, 'inside')"]
    for problem in run_programs([way.format(str(kept)) for way in ways]):
        assert problem.startswith("PermissionError")
    assert kept.read_text() == "kept" and [*tmp_path.iterdir()] == [kept]


def test_a_program_sees_no_variable_of_the_user_and_leaves_no_folder(monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    assert run_program("import os\nassert 'SECRET' not in os.environ") == ""
    problem = run_program("import os\nassert not os.listdir(), 'files'\nraise ValueError(os.getcwd())")
    assert not Path(problem.removeprefix("ValueError: ")).exists()


@for_each(("n", "passed", "k"), [(5, 2, 1), (5, 2, 3), (6, 0, 2), (6, 6, 2), (4, 1, 4)])
def test_pass_at_k_is_the_share_of_choices_in_which_one_passes(n, passed, k):
    draws = [any(one < passed for one in drawn) for drawn in combinations(range(n), k)]
    assert unbiased_pass_at_k(n, passed, k) == pytest.approx(sum(draws) / len(draws))


def test_pass_at_k_of_samples():
    item = Item("1", "def f(x):\n", fields={"test": "def check(f):\n    assert f(2) == 4", "entry_point": "f"})
    good, bad = "    return 2 * x\n", "    return x\n"
    responses = [Response(good), Response(samples=(good, bad, bad)), Response(samples=(bad, bad, bad))]
    assert metric("pass@1").measure([item] * 3, responses) == pytest.approx([1, 1 / 3, 0])
    first, second, third = metric("pass@2").measure([item] * 3, responses)
    assert isinstance(first, Unscored) and (second, third) == (pytest.approx(2 / 3), 0)


@pytest.mark.slow
@needs_data
def test_the_canonical_solutions_of_humaneval_pass_and_broken_ones_do_not():
    task = built_in()["humaneval"]
    assert isinstance(task, Task)
    with gzip.open(DATA / "humaneval" / "HumanEval.jsonl.gz", "rt") as lines:
        solutions = {row["task_id"]: row["canonical_solution"] for row in map(json.loads, lines)}
    items = [example.item for example in examples(task, DATA)[0]]
    assert metric("pass@1").measure(items, [Response(solutions[item.id]) for item in items]) == [1.0] * 164
    assert metric("pass@1").measure(items, [Response("    return None\n")] * 164) == [0.0] * 164
