"""Interactions per second into the log: batched by its writer thread, against one transaction for each.

    .venv/bin/python benchmarks/log_writing.py

Both sides encode the same rows and write the same tables with the same settings; they take turns in one run, each time
into a new file, and the median of the rounds' ratios is what counts. With a disk to itself the second column also shows
what a commit costs there.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lmworks.monitor.log import Log
from lmworks.monitor.rows import encode
from lmworks.monitor.sqlite import SqliteStore
from lmworks.records import Interaction, Message


def interaction(number: int) -> Interaction:
    """A chat of usual size: a prompt of 300 tokens and an answer of 100, with log-probabilities and timings."""
    return Interaction(
        id=f"{number:016x}",
        time=1.7e9 + number,
        messages=(
            Message("system", "Answer in one paragraph. " * 8),
            Message("user", f"What does the with statement do in program {number}? " * 6),
        ),
        response=f"It closes the file of program {number} when the block ends. " * 8,
        rendered_prompt="<|im_start|>user ... " * 40,
        prompt_ids=tuple(range(number, number + 300)),
        token_ids=tuple(range(number, number + 100)),
        token_log_probabilities=tuple(-1 / (1 + number + place) for place in range(100)),
        timings={"queued": 0.01, "prefill": 0.2, "decode": 1.3, "total": 1.51},
        input_tokens=300,
        output_tokens=100,
        route="assistant",
        conversation=f"{number // 4:016x}",
    )


def batched(path: Path, interactions: list[Interaction]) -> None:
    with Log(path, capacity=len(interactions)) as log:
        for future in [log.record(one) for one in interactions]:
            future.result()


def one_by_one(path: Path, interactions: list[Interaction]) -> None:
    store = SqliteStore(path)
    for one in interactions:
        store.execute([store.insertion(encode(one))])
    store.close()


def rate(write: Callable[[Path, list[Interaction]], None], interactions: list[Interaction], folder: Path) -> float:
    """Interactions per second, from the first to the last commit."""
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        start = time.perf_counter()
        write(Path(fresh) / "log.sqlite", interactions)
        return len(interactions) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--interactions", type=int, default=2000, help="in each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to measure")
    arguments = parser.parse_args()
    interactions = [interaction(number) for number in range(arguments.interactions)]
    ratios = []
    print(f"{'round':>5} {'lmworks (batched)':>18} {'one transaction each':>21} {'ratio':>6}")
    for number in range(1, arguments.rounds + 1):
        sides = [(batched, "batched"), (one_by_one, "one")]
        found = {name: rate(write, interactions, arguments.folder) for write, name in sides[:: 1 if number % 2 else -1]}
        ratios.append(found["batched"] / found["one"])
        print(f"{number:>5} {found['batched']:>16,.0f}/s {found['one']:>19,.0f}/s {ratios[-1]:>6.2f}")
    print(f"median ratio {statistics.median(ratios):.2f} (lowest {min(ratios):.2f}, highest {max(ratios):.2f})")


if __name__ == "__main__":
    main()
