"""Where the team's threads run: two of them part, and may afterwards run wherever they might before."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
