"""Loading takes no more memory than the model: the small version of `benchmarks/load_memory.py`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "load_memory.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
def test_no_more_memory_than_the_model_has():
    command = [sys.executable, str(BENCHMARK), "--layers", "3", "--json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = {row["way"]: row for row in map(json.loads, output.splitlines())}
    parameters = 3 * 44_044_288 + 2 * 32_000 * 2048 + 2048
    assert rows["open, as stored"]["ratio"] < 0.1
    for way in ("read every weight, as stored", "fingerprint, as stored"):
        assert rows[way]["ratio"] < 1.1
        assert rows[way]["RssAnon"] < 0.1 * 2 * parameters
    # A conversion needs its result and, mapped for that long, the tensor it converts: the embedding is the largest.
    for way, width in (("load as float16", 2), ("load as float32", 4)):
        assert rows[way]["RssAnon"] < 1.1 * width * parameters
        assert rows[way]["VmRSS"] < 1.1 * (width * parameters + 2 * 32_000 * 2048)
