"""The child's side of a contender: a process that computes when it is told to, and waits without computing otherwise.

A line of JSON comes in, a line of JSON goes out. This file needs nothing but Python's standard library, because each
contender runs in the Python environment of its own library.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Prompts = list[list[int]]


def use_processors(count: int) -> None:
    """Run on the first `count` processors only: called before any library starts threads."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def resident_bytes(field: str = "VmRSS") -> int:
    """Memory of this process in RAM; with "VmHWM" the most that it has been."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def serve(run: Callable[[Prompts, int], dict[str, Any]], imported: int) -> None:
    """Answer until the input ends.

    run        from prompts (token ids) and the number of new tokens for each to {"prefill", "decode"}: tokens per
               second, and {"ids"}: what was generated.
    imported   `resident_bytes` when the library was imported and no model was loaded.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        answer = run(job["prompts"], job["new"])
        memory = {"resident": resident_bytes() - imported, "peak": resident_bytes("VmHWM") - imported}
        print(json.dumps(answer | memory), file=answers, flush=True)
