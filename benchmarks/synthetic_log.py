"""A log of made-up traffic, for timing pages and drift: rows put straight into the table, in bulk.

    python benchmarks/synthetic_log.py log.sqlite --rows 1000000 --days 60 --drift-days 3 --width 384 --measure

Traffic has a cycle of the day and the week, in number and in what is asked, and takes part in an experiment, `tone`. In
the last `--drift-days` days a tenth of the questions are of a topic that was never there, and answers abstain twice as
often. `--measure` prints the processor seconds of drift over 31 days and of the experiment's read-out, and the time of
each page, the best of four; the log is then to be `log.sqlite` of a folder, which becomes a workspace.
"""

import argparse
import json
import resource
import sqlite3
import time
import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from lmworks.monitor.drift import catch_up
from lmworks.monitor.experiment import read_state, start
from lmworks.monitor.experiment_results import read_out
from lmworks.monitor.log import Log
from lmworks.monitor.rows import COLUMNS, TYPES
from lmworks.monitor.sqlite import SqliteStore
from lmworks.records import Experiment
from lmworks.serve.app import create_app
from lmworks.serve.config import ServeConfig
from lmworks.serve.service import Service

DAY = 86400.0
TOPICS = [
    "reset my password", "open a file", "the with statement", "train a model", "a refund for my order",
    "change the address", "read a table", "the price of shipping", "install the package", "cancel a booking",
]  # fmt: skip
NEW = "the outage of the payment gateway"
_ASKED = ("How do I get {}? I use {} and {}.", "Please explain {} with {} {}.", "My {} {} {} does not work.")
_NAMES = ["".join(parts) for parts in product(
    ("ka", "lo", "mi", "ne", "su", "ta"), ("ber", "don", "fil", "gra", "mon", "pit"), ("a", "en", "er", "is", "o", "ta")
)]  # fmt: skip


def times(generator: np.random.Generator, rows: int, days: float, end: float) -> np.ndarray:
    """Moments (rows,), ascending: many in the working hours of weekdays, few at night and on Sundays."""
    hours = np.arange(int(days * 24))
    week_hour = (np.floor(end / 3600).astype(int) - len(hours) + hours + 72) % 168  # the epoch began on a Thursday
    day, hour = week_hour // 24, week_hour % 24
    weight = (1 + 0.8 * np.sin((hour - 8) / 24 * 2 * np.pi)) * np.where(day >= 5, 0.4, 1.0)
    chosen = generator.choice(hours, rows, p=weight / weight.sum())
    return np.sort(end - (len(hours) - chosen - generator.random(rows)) * 3600)


def rows_of(
    generator: np.random.Generator, moments: np.ndarray, end: float, drift_days: float, width: int
) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Values in the order of `COLUMNS`, and the thumb."""
    count, topics = len(moments), len(TOPICS)
    centres = generator.normal(size=(topics + 1, width)).astype(np.float32)
    hour = (moments / 3600 % 24).astype(int)
    topic = np.where(generator.random(count) < 0.5, (hour // 3) % topics, generator.integers(0, topics, count))
    drifted = moments > end - drift_days * DAY
    topic[drifted & (generator.random(count) < 0.1)] = topics
    abstained = generator.random(count) < np.where(drifted, 0.2, 0.1)
    confidence = np.clip(generator.beta(6, 2, count) - 0.3 * abstained, 0, 1)
    seconds = generator.lognormal(0.5, 0.5, count)
    tokens = generator.poisson(np.where(abstained, 20, 120))
    thumbs = generator.choice(["", "up", "down"], count, p=[0.94, 0.045, 0.015])
    phrase, unit = generator.integers(0, 3, count), generator.integers(0, count // 8 + 1, count)
    names = generator.integers(0, len(_NAMES), (count, 2))
    defaults = {
        name: "" if kind.startswith("TEXT") else 0 if kind.startswith("INTEGER") else None
        for name, kind in TYPES.items()
    }
    for i in range(count):
        about = NEW if topic[i] == topics else TOPICS[topic[i]]
        question = _ASKED[phrase[i]].format(about, *(_NAMES[name] for name in names[i]))
        response = (
            "I cannot answer this."
            if abstained[i]
            else f"Open the settings and look there. [1] It takes {tokens[i]} steps."
        )
        vector = centres[topic[i]] + generator.normal(size=width).astype(np.float32)
        shared = {
            "id": f"{i:016x}", "time": float(moments[i]), "operation": "chat", "route": "assistant",
            "conversation": f"c{i // 2}", "model": "ab" * 32, "unit": f"u{unit[i]}", "finish_reason": "stop",
            "confidence": float(confidence[i]), "abstained": int(abstained[i]), "input_tokens": len(question) // 4,
            "output_tokens": int(tokens[i]), "experiment": "tone", "arm": "AB"[unit[i] % 2], "response": response,
        }  # fmt: skip
        timings = {"search": 0.1, "total": float(seconds[i])}
        payload = {
            **shared,
            "abstained": bool(abstained[i]),
            "timings": timings,
            "messages": [{"role": "user", "content": question}],
        }
        values = {
            **defaults, **shared, "prompt_hash": "cd" * 32, "index_hash": "ef" * 32, "seconds": float(seconds[i]),
            "timings": json.dumps(timings), "question": question, "query_embedding": vector.tobytes(),
            "payload": zlib.compress(json.dumps(payload).encode(), 1),
        }  # fmt: skip
        yield tuple(values[name] for name in COLUMNS), str(thumbs[i])


def write(
    path: Path, rows: int, days: float, drift_days: float = 0.0, width: int = 32, end: float | None = None
) -> None:
    """Make a log at `path`, which must not exist, whose newest row is at `end`, by default now."""
    SqliteStore(path).close()  # the tables
    end, generator = time.time() if end is None else end, np.random.default_rng(0)
    found = rows_of(generator, times(generator, rows, days, end), end, drift_days, width)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    names = ("thumbs", *COLUMNS)
    interactions = f"INSERT INTO interactions ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    feedback = "INSERT INTO feedback (id, interaction, time, kind, value, record) VALUES (?, ?, ?, 'thumbs', ?, ?)"
    said: list[tuple[Any, ...]] = []
    units: dict[str, tuple[Any, ...]] = {}
    with connection:

        def each() -> Iterator[tuple[Any, ...]]:
            for values, thumb in found:
                if thumb:
                    mapping = {"interaction": values[0], "time": values[1] + 60, "kind": "thumbs", "value": thumb}
                    said.append((values[0], values[0], values[1] + 60, thumb, json.dumps(mapping)))
                row = dict(zip(COLUMNS, values, strict=True))
                units.setdefault(row["unit"], (row["unit"], row["arm"], row["time"]))
                yield (thumb, *values)

        connection.executemany(interactions, each())
        connection.executemany(feedback, said)
        assigned = "INSERT INTO assignments (experiment, unit, arm, time, probability) VALUES ('tone', ?, ?, ?, 0.5)"
        connection.executemany(assigned, units.values())
    connection.close()
    arms = {arm: {"share": 0.5} for arm in "AB"}
    with Log(path) as log:
        start(log, Experiment("tone", arms, "thumbs", unit="user", window_days=1.0), end - days * DAY, "made up")


def measure(path: Path) -> None:
    """Print the processor seconds of drift and of a read-out, and the memory that they took."""
    with Log(path) as log:
        ((newest,),) = log.reader.rows("interactions", "max(time)")
        work = {
            "drift": lambda: catch_up(log, newest + 1),
            "read-out": lambda: read_out(log.reader, read_state(log.reader, "tone").experiment, newest + 1),
        }
        for name, run in work.items():
            began = time.process_time()
            run()
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{name}: {time.process_time() - began:.1f} processor seconds, {memory:.0f} MB at most")


def measure_pages(workspace: Path) -> None:
    """Print how long each page takes that reads the log."""
    service = Service(workspace, ServeConfig(), {"assistant": "smollm2-135m-instruct"})
    service.load()
    with TestClient(create_app(service), base_url="http://127.0.0.1") as http:
        for page in ("/overview", "/log", "/review", "/experiments", "/experiments/tone", "/drift", "/alarms"):
            seconds = []
            for _ in range(4):
                began = time.perf_counter()
                status = http.get(page).status_code
                seconds.append(time.perf_counter() - began)
            print(f"{page}: {1000 * min(seconds):.0f} ms, status {status}")
    service.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--days", type=float, default=60)
    parser.add_argument("--drift-days", type=float, default=0)
    parser.add_argument("--width", type=int, default=32, help="of the query embeddings")
    parser.add_argument("--measure", action="store_true")
    options = parser.parse_args()
    began = time.perf_counter()
    write(options.path, options.rows, options.days, options.drift_days, options.width)
    size = options.path.stat().st_size / 1e9
    print(f"{options.rows:,} rows in {time.perf_counter() - began:.0f} s, {size:.2f} GB: {options.path}")
    if options.measure:
        measure(options.path)
        measure_pages(options.path.parent)


if __name__ == "__main__":
    main()
