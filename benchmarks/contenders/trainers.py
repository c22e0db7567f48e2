"""What the benchmarks of vocabulary training share: the files to learn from, and a process for each training.

Nothing is imported here but Python's standard library, since the peak of memory is that of the whole process.
"""

import argparse
import json
import resource
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

SUFFIXES = {".py", ".rst", ".md", ".txt", ".html"}
Result = TypeVar("Result")


def files(folders: Sequence[str]) -> Iterator[str]:
    """The texts of the folders, sorted by name within each."""
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                yield path.read_text("utf-8", errors="replace")


def measured(train: Callable[[], Result]) -> tuple[Result, dict[str, float]]:
    """What training gives, and {"seconds", "megabytes"}: its time, and the peak of this process until its end."""
    begun = time.perf_counter()
    result = train()
    seconds = time.perf_counter() - begun
    return result, {"seconds": seconds, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def in_process(
    script: str, contender: str, folders: Sequence[str], megabytes: float, vocabulary: int
) -> dict[str, Any]:
    """What `script` prints as JSON in its last line, run for one contender in a process of its own."""
    arguments = [*folders, "--child", contender, "--megabytes", str(megabytes), "--vocabulary", str(vocabulary)]
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def parser(description: str | None, contenders: Sequence[str], megabytes: float) -> argparse.ArgumentParser:
    """The arguments that all have: texts, sizes, rounds, and the contender that `in_process` names."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("folders", nargs="*", default=[sysconfig.get_path("stdlib")])
    made.add_argument("--vocabulary", type=int, default=32_000)
    made.add_argument("--megabytes", type=float, default=megabytes)
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--child", choices=contenders, help=argparse.SUPPRESS)
    return made
